"""What is in a release, for those who look for known holes and licences: CycloneDX files, the same from the same locks.

One is for the service, with all that `requirements.lock` puts beside it on Linux (the image has no other packages of
Python), one for the npm package. What the base image has of Debian's is known only where the image is built.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LICENSES = LicenseFactory()


def service(lock: Path, version: str, epoch: int) -> str:
    """Return the file for the service: the packages of `lock`, with the hashes that it accepts."""
    return _written(
        Component(name="restate-pubsub", version=version, type=ComponentType.APPLICATION, bom_ref="restate-pubsub"),
        _locked(lock),
        epoch,
    )


def npm_package(folder: Path, version: str, epoch: int) -> str:
    """Return the file for the npm package in `folder`: what its lock file names, but for what only builds and tests."""
    lock = json.loads((folder / "package-lock.json").read_text())
    found = [
        Component(
            name=(name := path.rpartition("node_modules/")[2]),
            version=about["version"],
            purl=(purl := PackageURL("npm", None, name, about["version"])),
            bom_ref=str(purl),
            licenses=_licences(about.get("license")),
        )
        for path, about in lock["packages"].items()
        if path and not (about.get("dev") or about.get("peer") or about.get("devOptional"))
    ]
    subject = Component(
        name="restate-pubsub",
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref="restate-pubsub",
        licenses=_licences("Apache-2.0"),
    )
    return _written(subject, found, epoch)


def _locked(lock: Path) -> Iterator[Component]:
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        words = Requirement(line.partition(" --hash")[0].strip())
        if words.marker is not None and not words.marker.evaluate():
            continue
        (wanted,) = words.specifier
        purl = PackageURL("pypi", None, canonicalize_name(words.name), wanted.version)
        yield Component(
            name=words.name,
            version=wanted.version,
            purl=purl,
            bom_ref=str(purl),
            licenses=_licences(_licence_of(words.name)),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=content)
                for content in re.findall(r"--hash=sha256:([0-9a-f]{64})", line)[:1]
            ],
        )


def _licence_of(name: str) -> str | None:
    about = importlib.metadata.metadata(name)
    said = [*(about.get_all("License-Expression") or ()), *(about.get_all("License") or ())]
    classified = [one for one in about.get_all("Classifier") or () if one.startswith("License :: ")]
    # A whole licence's text is no name.
    names = [one for one in said if one and "\n" not in one] + [one.rpartition(" :: ")[2] for one in classified]
    return names[0] if names else None


def _licences(text: str | None) -> list[Any]:
    if text is None:
        return []
    made = LICENSES.make_from_string(text)
    return [made if made is not None else License(name=text)]


def _written(subject: Component, components: Any, epoch: int) -> str:
    bom = Bom(components=components)
    bom.metadata.component = subject
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    # The same content has the same number.
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{subject.name}@{subject.version}#{epoch}#{subject.type}")
    bom.register_dependency(subject, list(bom.components))
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
