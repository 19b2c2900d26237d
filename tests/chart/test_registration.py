"""What the chart runs in the cluster, run as it renders it: the registration's Job and the test's pod.

A pod is played by a process with the rendered arguments and environment; only addresses differ.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chart.charts import CI, RELEASE, ci_values, deep_merge, environment, of, pods, render, single
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, free_port, get
from support.waiting import until


def values_for(service: Service, **more: Any) -> dict[str, Any]:
    """Return values under which the chart would install this service."""
    name = service.env["PUBSUB_OBJECT_NAME"]
    values = {
        "restate": {
            "ingressUrl": service.env["RESTATE_INGRESS_URL"],
            "adminUrl": service.env["RESTATE_ADMIN_URL"],
        },
        "registration": {"url": f"{service.url}/restate", "waitSeconds": 20},
        "settings": {"PUBSUB_OBJECT_NAME": name},
    }
    return deep_merge(values, more)


async def run_pod(
    kind: str, values: dict[str, Any], *, command: list[str], more: list[str], said: Callable[[str], None] | None = None
) -> tuple[int, str]:
    """Run what the pod of this kind would; return its exit code and its log, each line of which `said` is told."""
    manifests = render(values)
    pod = dict(pods(manifests))[kind]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("RESTATE_", "PUBSUB_"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        *more,
        env=bare | {"PATH": f"{Path(sys.executable).parent}:{bare['PATH']}"} | environment(manifests, pod),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    log = ""
    async with asyncio.timeout(60):
        async for line in process.stdout:
            log += line.decode()
            if said is not None:
                said(line.decode())
        return await process.wait(), log


async def register(values: dict[str, Any], said: Callable[[str], None] | None = None) -> tuple[int, str]:
    """Run the registration's Job; return its exit code and its log."""
    (container,) = of(render(values), "Job")["spec"]["template"]["spec"]["containers"]
    assert "command" not in container
    command = [sys.executable, "-m", "restate_pubsub"]
    return await run_pod("Job", values, command=command, more=container["args"], said=said)


def last_line(log: str) -> str:
    """Return the line that `kubectl logs` ends with."""
    return log.strip().splitlines()[-1]


@asynccontextmanager
async def installed(
    restate: RestateServer, name: str, *, keep: str = "1h", port: int | None = None
) -> AsyncIterator[Service]:
    """Run a service that is not registered, under an object name of its own; `keep` is something to discover."""
    service = Service(restate, port=port, PUBSUB_OBJECT_NAME=name, PUBSUB_IDEMPOTENCY_RETENTION=keep)
    await service.start(register=False)
    try:
        yield service
    finally:
        await service.stop()


async def test_the_job_registers_and_may_be_repeated(restate: RestateServer) -> None:
    """What an install runs, and what an upgrade runs again."""
    async with installed(restate, "repeated") as service:
        values = values_for(service)
        code, log = await register(values)
        assert code == 0, log
        assert "registered: object repeated (revision 1)" in log
        await until(lambda: service.answers("/health/ready"), "the service to be ready")
        code, log = await register(values)
        assert code == 0, log
        assert "unchanged: object repeated" in log


async def test_the_pods_are_ready_before_they_are_registered(restate: RestateServer) -> None:
    """Else `helm install --wait` would wait for ever for what its own hook does afterwards."""
    async with installed(restate, "early") as service:
        (container,) = of(render(values_for(service)), "Deployment")["spec"]["template"]["spec"]["containers"]
        await until(lambda: service.answers(container["readinessProbe"]["httpGet"]["path"]), "the pod to be ready")
        assert not await service.answers("/health/ready")


async def test_an_upgrade_is_registered_only_when_the_new_pods_answer(restate: RestateServer) -> None:
    """The URL stays, and while the rollout goes on, an old pod answers it. A rollback is the same the other way."""
    async with installed(restate, "upgraded", keep="2h") as old:
        before = values_for(old, settings={"PUBSUB_IDEMPOTENCY_RETENTION": "2h"})
        after = values_for(old, settings={"PUBSUB_IDEMPOTENCY_RETENTION": "3h"})
        assert (await register(before))[0] == 0
        waits = asyncio.Event()

        def said(line: str) -> None:
            if "still answers" in line:
                waits.set()

        early = asyncio.create_task(register(after, said))
        await asyncio.wait_for(waits.wait(), 30)
        await old.stop()
        async with installed(restate, "upgraded", keep="3h", port=old.port):
            code, log = await early
            assert code == 0, log
            assert await retention(restate, "upgraded") == "3h"
        async with installed(restate, "upgraded", keep="2h", port=old.port):
            code, log = await register(before)
            assert code == 0, log
            assert await retention(restate, "upgraded") == "2h"


async def retention(restate: RestateServer, name: str) -> str:
    """Return how long Restate keeps the idempotency keys of `publish`."""
    _, found, _ = await get(f"{restate.admin_url}/services/{name}")
    (publish,) = (handler for handler in found["handlers"] if handler["name"] == "publish")
    return str(publish["idempotency_retention"])


async def test_a_rollout_that_does_not_complete_fails_the_job(restate: RestateServer) -> None:
    """The last line says what to look at; once it has completed, the next upgrade mends the release."""
    async with installed(restate, "stuck") as service:
        values = values_for(service, registration={"waitSeconds": 2}, settings={"PUBSUB_IDEMPOTENCY_RETENTION": "5h"})
        code, log = await register(values)
        assert code == 1
        assert "still answers with another version or other settings: is the rollout complete" in last_line(log)
        code, log = await register(values_for(service))
        assert code == 0, log


async def test_a_wrong_admin_url_fails_with_a_clear_line(restate: RestateServer) -> None:
    """The line names the address and the setting; the right one then works."""
    async with installed(restate, "lost") as service:
        wrong = f"http://127.0.0.1:{free_port()}"
        code, log = await register(values_for(service, restate={"adminUrl": wrong}, registration={"waitSeconds": 1}))
        assert code == 1
        assert f"Restate's admin API at {wrong} cannot be reached" in last_line(log)
        assert "check RESTATE_ADMIN_URL" in last_line(log)
        assert (await register(values_for(service)))[0] == 0


async def test_a_service_that_restate_cannot_reach_fails_with_a_clear_line(restate: RestateServer) -> None:
    """As when a network policy is between, or the URL of a tunnel is wrong."""
    async with installed(restate, "unreachable") as service:
        wrong = f"http://127.0.0.1:{free_port()}/restate"
        code, log = await register(values_for(service, registration={"url": wrong, "waitSeconds": 1}))
        assert code == 1
        assert f"Restate cannot reach {wrong}" in last_line(log)


async def test_a_wrong_token_fails_at_once_with_a_clear_line(restate: RestateServer) -> None:
    """Before an admin API that asks for a token, as Restate Cloud's does."""
    port = free_port()

    async def gate(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer right":
            return web.json_response({"message": "no such token"}, status=401)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                restate.admin_url + request.path_qs,
                data=await request.read(),
                headers={"content-type": "application/json"},
            ) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")

    cloud = web.Application()
    cloud.router.add_route("*", "/{path:.*}", gate)
    runner = web.AppRunner(cloud)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with installed(restate, "guarded") as service:
            given = values_for(service, restate={"adminUrl": f"http://127.0.0.1:{port}"})
            code, log = await register(given | {"secrets": {"RESTATE_AUTH_TOKEN": "wrong"}})
            assert code == 1
            assert "refused the token (401): set RESTATE_AUTH_TOKEN" in last_line(log)
            assert "wrong" not in log
            code, log = await register(given | {"secrets": {"RESTATE_AUTH_TOKEN": "right"}})
            assert code == 0, log
    finally:
        await runner.cleanup()


async def test_two_releases_cannot_take_one_name_unawares(restate: RestateServer) -> None:
    """The second is told whose it is; with `registration.force` it takes it over, as a move to another URL needs."""
    async with installed(restate, "shared") as first, installed(restate, "shared") as second:
        assert (await register(values_for(first)))[0] == 0
        code, log = await register(values_for(second))
        assert code == 1
        assert f"is served by another deployment, {first.url}/restate" in last_line(log)
        assert "PUBSUB_OBJECT_NAME" in last_line(log)
        code, log = await register(values_for(second, registration={"force": True}))
        assert code == 0, log


async def test_a_service_of_somebody_elses_is_not_replaced(restate: RestateServer) -> None:
    """A name that another program has, of another type even: the last line names both ways out."""
    port = free_port()
    program = (
        "import asyncio, restate\n"
        "from hypercorn.asyncio import serve\nfrom hypercorn.config import Config\n"
        "greeter = restate.Service('taken')\n"
        "@greeter.handler()\nasync def greet(ctx: restate.Context, name: str) -> str:\n    return name\n"
        f"config = Config(); config.bind = ['127.0.0.1:{port}']\n"
        "asyncio.run(serve(restate.app([greeter]), config))\n"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with installed(restate, "taken") as service, aiohttp.ClientSession() as session:

            async def theirs() -> bool:
                body = {"uri": f"http://127.0.0.1:{port}"}
                async with session.post(f"{restate.admin_url}/deployments", json=body) as answer:
                    return answer.status in (200, 201)

            await until(theirs, "the other service to be registered")
            code, log = await register(values_for(service))
            assert code == 1
            assert "PUBSUB_OBJECT_NAME" in last_line(log)
            assert "another deployment" in last_line(log)
    finally:
        other.kill()  # the SDK takes SIGTERM for itself
        await other.wait()


async def test_helm_test_reads_what_it_published(restate: RestateServer) -> None:
    """The pod's own script, against the stream of a registered service; and it fails when there is none."""
    async with installed(restate, "tested") as service:
        values = values_for(service)
        assert (await register(values))[0] == 0
        pod = of(render(values), "Pod")
        (container,) = pod["spec"]["containers"]
        *script, url = container["command"]
        assert script[:2] == ["python", "-c"]
        assert url == "http://live-restate-pubsub.apps.svc:80/pubsub"
        code, log = await run_pod("Pod", values, command=script, more=[f"{service.url}/pubsub"])
        assert code == 0, log
        assert "and read from" in log
        code, log = await run_pod("Pod", values, command=script, more=[f"http://127.0.0.1:{free_port()}/pubsub"])
        assert code == 1
        assert "cannot be read" in log


SECRET = "a secret of these tests, 32 bytes long"


async def test_helm_test_gets_past_the_lock_on_the_streams(restate: RestateServer) -> None:
    """With a shared secret it signs a token of its own; with a public key, a 401 is what is right."""
    script = (ROOT / "helm/restate-pubsub/files/first_message.py").read_text()
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for name, key, said in (("shared", SECRET, "and read from"), ("public", pem, "wants a token")):
        service = Service(restate, PUBSUB_OBJECT_NAME=name, PUBSUB_JWT_KEY=key, PUBSUB_JWT_ISSUER="us")
        await service.start()
        words = [sys.executable, "-c", script, f"{service.url}/pubsub"]
        env = service.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        process = await asyncio.create_subprocess_exec(
            *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        await service.stop()
        assert process.returncode == 0, out
        assert said in out.decode()


def test_the_job_is_replaced_and_not_retried_when_it_was_refused() -> None:
    """Each upgrade runs it anew; its log stays until then; and it gives up before Helm does."""
    job = of(render(single("registration.waitSeconds", 100)), "Job")
    hooks = job["metadata"]["annotations"]
    assert hooks["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
    assert hooks["helm.sh/hook-delete-policy"] == "before-hook-creation"
    assert job["spec"]["activeDeadlineSeconds"] == 145
    assert job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [1, 2]
    assert of(render({}), "Job")["spec"]["activeDeadlineSeconds"] < 300


ARGO_CD_RUNS_AFTER_A_SYNC = {"post-install", "post-upgrade"}
ARGO_CD_LEAVES_OUT = {"post-rollback", "test"}


@pytest.mark.parametrize("name", CI)
def test_the_registration_comes_last_in_every_deployer(name: str) -> None:
    """Helm and Flux run it after the rollout, Argo CD after the sync; what it needs is there by then, and no hook."""
    hooks, others = [], set()
    for manifest in render(ci_values(name)):
        if kinds := manifest["metadata"].get("annotations", {}).get("helm.sh/hook"):
            hooks.append((set(kinds.split(",")), manifest))
        else:
            others.add((manifest["kind"], manifest["metadata"]["name"]))
    for kinds, manifest in hooks:
        assert kinds <= ARGO_CD_RUNS_AFTER_A_SYNC | ARGO_CD_LEAVES_OUT
        assert manifest["kind"] == "Pod" if "test" in kinds else kinds >= ARGO_CD_RUNS_AFTER_A_SYNC
        spec = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
        needed = {("ServiceAccount", spec["serviceAccountName"])} if "serviceAccountName" in spec else set()
        for container in spec["containers"]:
            needed |= {("ConfigMap", one["configMapRef"]["name"]) for one in container.get("envFrom", ())}
        assert {each for each in needed if each[1].startswith(RELEASE)} <= others
