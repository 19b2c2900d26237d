"""`/health/ready` as probes ask it."""

from __future__ import annotations

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, get
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
            assert (status, body["status"]) == (503, "not ready")
    finally:
        await lost.stop()


async def test_another_word_is_refused(service: Service) -> None:
    """A probe with a typing error must not look well."""
    status, body, _ = await get(f"{service.url}/health/ready?object=maybe")
    assert status == 400
    assert body["code"] == "invalid-request"
    assert "'maybe'" in body["detail"]
