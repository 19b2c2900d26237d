# The image of restate-pubsub: build it with `make image`.
#
# Two stages on one base: the first installs what requirements.lock names, each file checked against its hash, into a
# virtual environment; the second takes that folder and nothing else. Any base with Python 3.11 or newer at `python`
# will do, if both stages use it: the environment points at its interpreter.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# One environment to build with, one to ship: the second has no pip.
RUN python -m venv /build && python -m venv --without-pip /opt/restate-pubsub
COPY requirements.lock requirements-build.lock ./
RUN /build/bin/pip install -q --require-hashes -r requirements-build.lock \
 && /build/bin/pip --python /opt/restate-pubsub/bin/python install -q --no-compile --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
# Modules are compiled here, since nothing can be written where it runs; their tests and types stay behind. What is
# compiled does not look at the time of its source, so that a build may set all times to one.
RUN /build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels . \
 && /build/bin/pip --python /opt/restate-pubsub/bin/python install -q --no-compile --no-deps --no-index /wheels/*.whl \
 && find /opt/restate-pubsub -depth \( -name tests -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -exec rm -rf {} + \
 && python -m compileall -q -f --invalidation-mode unchecked-hash /opt/restate-pubsub

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="restate-pubsub" \
      org.opencontainers.image.description="Durable topics in Restate, live token-by-token streams in the browser" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /opt/restate-pubsub /opt/restate-pubsub
ENV PATH=/opt/restate-pubsub/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /
EXPOSE 9080
ENTRYPOINT ["restate-pubsub"]
CMD ["serve"]
