"""Run the built image as a pod would: read-only, without capabilities, as the user that the image names."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

IN_CHROOT = """
mount --bind "$1" "$1"
for each in proc dev; do mount --bind "/$each" "$1/$each"; done
for each in hosts resolv.conf; do [ -e "$1/etc/$each" ] && mount --bind "/etc/$each" "$1/etc/$each"; done
mount -o remount,bind,ro "$1"
root=$1 user=$2; shift 2
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"""
"""What an engine's `run --read-only` does, for buildah, whose `run` has no such option. Every step replaces the
process before it, so that a signal reaches the service itself."""


class Image:
    """One built image and the engine that has it."""

    def __init__(self, engine: str, tag: str) -> None:
        """`engine` is docker, podman or buildah."""
        self.engine = engine
        self.tag = tag
        self._mounted: tuple[str, str] | None = None

    def _say(self, *words: str) -> str:
        return subprocess.run([self.engine, *words], check=True, capture_output=True, text=True).stdout.strip()

    def config(self) -> dict[str, Any]:
        """Return the image's configuration as OCI writes it."""
        if self.engine == "buildah":
            inspected: dict[str, Any] = json.loads(self._say("inspect", "--type", "image", self.tag))
            return dict(inspected["OCIv1"]["config"])
        return dict(json.loads(self._say("image", "inspect", self.tag))[0]["Config"])

    def size(self) -> str:
        """Return the image's size for people."""
        if self.engine == "buildah":
            return self._say("images", "--format", "{{.Size}}", self.tag)
        return f"{int(self._say('image', 'inspect', '--format', '{{.Size}}', self.tag)) / 1e6:.0f} MB"

    def command(self, words: Sequence[str], env: Mapping[str, str], entrypoint: str | None = None) -> list[str]:
        """Return the command line that runs the image with `words` after its entry point."""
        if self.engine != "buildah":
            options = [f"--env={name}={value}" for name, value in env.items()]
            options += ["--rm", "--read-only", "--network=host", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
            return [
                self.engine,
                "run",
                *options,
                *([f"--entrypoint={entrypoint}"] if entrypoint else []),
                self.tag,
                *words,
            ]
        if self._mounted is None:
            container = self._say("from", self.tag)
            self._mounted = container, self._say("mount", container)
        config = self.config()
        given = [*config["Env"], *(f"{name}={value}" for name, value in env.items())]
        program = [entrypoint] if entrypoint else config["Entrypoint"]
        inside = ["env", "-i", *given, *program, *(words or config["Cmd"])]
        return ["unshare", "--mount", "sh", "-euc", IN_CHROOT, "sh", self._mounted[1], config["User"], *inside]

    @asynccontextmanager
    async def running(
        self, words: Sequence[str], env: Mapping[str, str], log: Path
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the image; end it, if it still runs, on leaving."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(*self.command(words, env), stdout=output, stderr=output)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 30)

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, entrypoint: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the image to its end."""
        command = self.command(words, env or {}, entrypoint)
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    def close(self) -> None:
        """Give back what was mounted."""
        if self._mounted is not None:
            self._say("rm", self._mounted[0])
