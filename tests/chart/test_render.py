"""What the chart makes: valid everywhere, restricted, and true to the service's settings, routes and ports."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from chart.charts import CI, POD_ADDRESS, Manifest, ci_values, deep_merge, environment, of, pods, render, single, texts
from chart.custom_resources import SCHEMAS
from restate_pubsub.settings import fields as settings
from restate_pubsub.telemetry.tracing.asked import asked_for

OLDEST, NEWEST = "1.30", "1.37"
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "somewhere"}}}
LONG = "a-name-that-is-so-long-that-it-must-be-cut-to-fit-in"

SIDECAR = {
    "name": "beside",
    "image": "example.com/proxy:1.0",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}

SINGLE: dict[str, dict[str, Any]] = {
    "digest": single("image.digest", "sha256:" + "a" * 64),
    "pull secrets": single("imagePullSecrets", [{"name": "registry"}]),
    "name override": single("nameOverride", LONG + LONG),
    "full name override": single("fullnameOverride", LONG + LONG),
    "cluster name": single("restate.clusterName", "prod"),
    "operator by url": single("restate.operator", {"enabled": True, "register": {"url": "http://restate.x.svc:9070"}}),
    "operator by service": single(
        "restate.operator",
        {"enabled": True, "register": {"service": {"name": "restate", "namespace": "x", "port": 9070}}},
    ),
    "forced": single("registration.force", value=True),
    "job annotations": single("registration.annotations", {"sidecar.istio.io/inject": "false"}),
    "no job resources": single("registration.resources", {"requests": None, "limits": None}),
    "large number": single("settings", {"PUBSUB_RING_BYTES": 104857600}),
    "chart's secret": single("secrets", {"RESTATE_AUTH_TOKEN": 'a "quoted": token'}),
    "existing secret": single("existingSecrets", {"RESTATE_AUTH_TOKEN": {"name": "restate", "key": "token"}}),
    "extra environment": single("extraEnv", [{"name": "SSL_CERT_FILE", "value": "/etc/ssl/own.pem"}]),
    "ipv6": single("bindHost", "[::]"),
    "recreate": single("strategy", {"type": "Recreate"}),
    "longer drain": single("settings", {"PUBSUB_DRAIN_TIMEOUT": "2.5m"}),
    "own grace period": single("terminationGracePeriodSeconds", 600),
    "node port": single("service", {"type": "NodePort", "nodePort": 30080}),
    "no service account": single("serviceAccount.create", value=False),
    "ingress without class": single("ingress", {"enabled": True, "hosts": ["a.example.com", "b.example.com"]}),
    "route without host names": single("httpRoute", {"enabled": True, "parentRefs": [{"name": "public", "port": 443}]}),
    "streams only": single("autoscaling", {"enabled": True, "targetCPU": None, "targetStreamsPerPod": 2000}),
    "disruption by percentage": single("podDisruptionBudget.maxUnavailable", "25%"),
    "disruption by least": single("podDisruptionBudget.minAvailable", 1),
    "network policy": single("networkPolicy", {"enabled": True, "from": {"gateway": [PEER], "prometheus": [PEER]}}),
    "monitored": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "pod details": {
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "chat"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "kept close": single("service.trafficDistribution", "PreferClose"),
    "certificate": single(
        "ingress", {"enabled": True, "hosts": ["a.example.com", "b.example.com"], "clusterIssuer": "letsencrypt"}
    ),
    "further objects": single(
        "extraObjects",
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "own", "namespace": "{{ .Release.Namespace }}", "labels": {}},
                "data": {"of": '{{ include "restate-pubsub.fullname" . }}'},
            }
        ],
    ),
    "labels and annotations": {
        "commonLabels": {"team": "chat"},
        "commonAnnotations": {"owner": "chat@example.com"},
        "ingress": {"enabled": True, "hosts": ["a.example.com"]},
    },
    "beside the pods": {
        "extraVolumes": [{"name": "certificates", "configMap": {"name": "own-ca"}}],
        "extraVolumeMounts": [{"name": "certificates", "mountPath": "/etc/ssl/own", "readOnly": True}],
        "initContainers": [{**SIDECAR, "name": "wait"}],
        "extraContainers": [SIDECAR],
        "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
        "runtimeClassName": "gvisor",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.1"]},
        "hostAliases": [{"ip": "192.0.2.2", "hostnames": ["restate.local"]}],
    },
    "traced": single("tracing", {"endpoint": "http://collector.observability:4318", "samplerArgument": 1}),
    "no resources": {"resources": {"requests": None, "limits": None}},
}
ALL = {f"ci/{name}": ci_values(name) for name in CI} | SINGLE
every = pytest.mark.parametrize("values", ALL.values(), ids=ALL)


@functools.cache
def check(manifest: str, version: str) -> None:
    """Validate a manifest, as JSON so that those which many values have in common are validated once."""
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


@every
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(values: dict[str, Any], version: str) -> None:
    """Strictly: unknown fields are errors. Custom resources have the fields of their definitions."""
    for manifest in render(values):
        if manifest["kind"] not in SCHEMAS:
            check(json.dumps(manifest), version)
            continue
        jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        if manifest["kind"] == "RestateDeployment":
            spec = {"selector": manifest["spec"]["selector"], "template": manifest["spec"]["template"]}
            deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": manifest["metadata"], "spec": spec}
            check(json.dumps(deployment), version)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    """The check above can fail."""
    service = of(render({}), "Service", "-restate")
    with pytest.raises(kubernetes_validate.ValidationError):
        check(json.dumps(deep_merge(service, {"spec": {"publishNotReady": True}})), NEWEST)


@every
def test_names_and_labels_fit_and_are_unique(values: dict[str, Any]) -> None:
    """Names leave room for what controllers append to them, and everything is in the release's namespace."""
    manifests = render(values)
    seen = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(seen) == len(set(seen))
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == "apps"
        assert len(manifest["metadata"]["name"]) <= (52 if manifest["kind"] == "RestateDeployment" else 63)
        for label in manifest["metadata"]["labels"].values():
            assert len(label) <= 63
            assert not label.endswith("-")


@every
def test_pods_meet_the_restricted_standard(values: dict[str, Any]) -> None:
    """And more: a read-only root, no token of a service account, an image with a version, memory limited, CPU not."""
    for kind, pod in pods(render(values)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec.get("volumes", []) == values.get("extraVolumes", [])
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]
            resources = container.get("resources", {})
            assert "cpu" not in (resources.get("limits") or {}), f"{kind}: a limit of CPU only slows streams down"


@every
def test_the_environment_of_every_pod_is_settings_that_exist(values: dict[str, Any]) -> None:
    """What the service reads from it is valid, and nothing in it is a name that nothing reads."""
    manifests = render(values)
    for _, pod in pods(manifests):
        found = environment(manifests, pod)
        allowed = {each["name"] for each in values.get("extraEnv", ())}
        if values.get("tracing"):
            assert asked_for(found)
            allowed |= {name for name in found if name.startswith("OTEL_")}
        if "PUBSUB_ADVERTISE" in found:
            allowed.add("POD_IP")
        assert found.keys() - settings.variables().keys() <= allowed
        settings.load(found, strict=True)


@every
def test_no_secret_is_in_a_config_map(values: dict[str, Any]) -> None:
    """Secret settings are in Secrets only."""
    secret = {name for name, field in settings.variables().items() if settings.is_secret(field)}
    for manifest in render(values):
        if manifest["kind"] == "ConfigMap":
            assert not secret & manifest["data"].keys()


@every
def test_services_and_budgets_select_the_serving_pods_alone(values: dict[str, Any]) -> None:
    """The pods of the Job and of the test get no traffic."""
    manifests = render(values)
    by_kind = {kind: pod["metadata"]["labels"].items() for kind, pod in pods(manifests)}
    selectors = [each["spec"]["selector"] for each in manifests if each["kind"] == "Service"]
    budgets = [each["spec"]["selector"]["matchLabels"] for each in manifests if each["kind"] == "PodDisruptionBudget"]
    for selector in selectors + budgets:
        chosen = {kind for kind, labels in by_kind.items() if selector.items() <= labels}
        assert len(chosen) == 1
        assert chosen <= {"Deployment", "RestateDeployment"}


@every
def test_only_the_path_of_the_streams_is_exposed(values: dict[str, Any]) -> None:
    """An Ingress or a route leads to the streams' port of the streams' Service, at the streams' path."""
    manifests = render(values)
    _, pod = next(pods(manifests))
    path = settings.load(environment(manifests, pod)).sse_path
    for manifest in manifests:
        if manifest["kind"] == "Ingress":
            for rule in manifest["spec"]["rules"]:
                (exposed,) = rule["http"]["paths"]
                assert (exposed["path"], exposed["pathType"]) == (path, "Prefix")
                assert exposed["backend"]["service"]["port"] == {"name": "http"}
        if manifest["kind"] == "HTTPRoute":
            (rule,) = manifest["spec"]["rules"]
            assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": path}}]
            assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
        if manifest["kind"] == "Service":
            ports = [port["targetPort"] for port in manifest["spec"]["ports"]]
            public = manifest["spec"]["type"] != "ClusterIP"
            assert ports == (["http"] if public else ports)


@every
def test_a_pod_has_time_to_drain(values: dict[str, Any]) -> None:
    """The grace period is longer than the pause before and the drain itself."""
    manifests = render(values)
    for kind, pod in pods(manifests):
        if kind in ("Deployment", "RestateDeployment"):
            container = pod["spec"]["containers"][0]
            pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            drain = settings.load(environment(manifests, pod)).drain_timeout
            assert pod["spec"]["terminationGracePeriodSeconds"] > pause + drain


def test_restate_reaches_pods_that_are_not_ready_yet() -> None:
    """A Service of its own: else an install that waits for readiness, and a registration that needs the Service, would
    wait for each other.
    """
    manifests = render({})
    internal, streams = of(manifests, "Service", "-restate"), of(manifests, "Service", "live-restate-pubsub")
    assert internal["spec"]["publishNotReadyAddresses"] is True
    assert internal["spec"]["type"] == "ClusterIP"
    assert internal["spec"]["ports"] == [
        {"name": "restate", "port": 9080, "targetPort": "restate", "appProtocol": "kubernetes.io/h2c"},
        {"name": "metrics", "port": 9090, "targetPort": "metrics"},
    ]
    assert "publishNotReadyAddresses" not in streams["spec"]


def test_readiness_does_not_wait_for_the_registration() -> None:
    """The hook that registers runs after the pods are ready."""
    (container,) = of(render({}), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready?object=optional"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"


def test_ports_are_those_that_the_service_listens_on() -> None:
    """Each container port has an address in PUBSUB_BIND, the streams' first."""
    manifests = render({})
    (container,) = of(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = of(manifests, "ConfigMap")["data"]
    assert given["PUBSUB_BIND"] == f"0.0.0.0:{ports['http']},0.0.0.0:{ports['restate']}"
    assert given["PUBSUB_METRICS_BIND"] == f"0.0.0.0:{ports['metrics']}"


@pytest.mark.parametrize("operator", [False, True])
def test_pods_say_where_the_others_reach_them(operator: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """At the port that Restate calls; and no address but those of this release's pods is called."""
    values = {"restate": {"operator": {"enabled": True, "register": {"cluster": "restate"}}}} if operator else {}
    manifests = render(values)
    (server,) = [pod for kind, pod in pods(manifests) if kind in ("Deployment", "RestateDeployment")]
    given = settings.load(environment(manifests, server), strict=True)
    assert given.advertise == f"http://{POD_ADDRESS}:9080"
    (service,) = [each for each in manifests if each["metadata"]["name"].endswith("-peers")]
    assert given.peers == (f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc",)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= server["metadata"]["labels"].items()
    others = [environment(manifests, pod) for _, pod in pods(manifests) if pod is not server]
    assert not any("PUBSUB_ADVERTISE" in other for other in others)


def test_pods_may_call_one_another() -> None:
    """At that port, also where nobody else may."""
    manifests = render({"networkPolicy": {"enabled": True, "from": {"gateway": [PEER]}}})
    first, *_ = of(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert first["ports"] == [{"port": "restate"}]
    labels = of(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert any(
        each.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= labels.items() for each in first["from"]
    )


def test_without_peers_nothing_of_them_is_left() -> None:
    """All goes through Restate."""
    manifests = render({"peers": {"enabled": False}, "networkPolicy": {"enabled": True, "from": {"gateway": [PEER]}}})
    assert not [each for each in manifests if each["metadata"]["name"].endswith("-peers")]
    (server,) = [pod for kind, pod in pods(manifests) if kind == "Deployment"]
    assert not {"PUBSUB_ADVERTISE", "PUBSUB_PEERS", "POD_IP"} & environment(manifests, server).keys()
    assert not any("podSelector" in each for each in of(manifests, "NetworkPolicy")["spec"]["ingress"][0]["from"])


def test_nothing_is_taken_away_before_its_successor_is_ready() -> None:
    """A rollout adds first."""
    strategy = of(render({}), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def test_the_chart_assumes_the_defaults_that_the_service_has() -> None:
    """Where a template needs a setting that is not given, it takes what the service will."""
    defaults = settings.Settings()
    stated = texts({"ingress": {"enabled": True, "hosts": ["a"]}, "terminationGracePeriodSeconds": 26})
    assert f"path: {defaults.sse_path}\n" in stated["ingress.yaml"]
    assert f"svc:9080{defaults.restate_path}\n" in stated["registration.yaml"]
    assert f"object {defaults.object_name}\n" in stated["NOTES.txt"]
    assert defaults.drain_timeout == 20


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"settings": {"PUBSUB_PULL_TIMEOUT": "31s"}}, False),
        ({"secrets": {"RESTATE_AUTH_TOKEN": "other"}}, False),
        ({"service": {"annotations": {"a": "b"}}}, True),
        ({"replicaCount": 5}, True),
    ],
)
def test_pods_are_replaced_when_their_settings_change(change: dict[str, Any], same: bool) -> None:  # noqa: FBT001
    """And only then: with the operator, each new template is a new version."""
    base = {"secrets": {"RESTATE_AUTH_TOKEN": "one"}}

    def template(values: dict[str, Any]) -> Manifest:
        return dict(of(render(values), "Deployment")["spec"]["template"])

    assert (template(base) == template(deep_merge(base, change))) is same


def test_the_operator_takes_the_place_of_deployment_and_job() -> None:
    """It gets the mount's path and exactly one place to register with; the autoscaler scales its resource."""
    manifests = render(ci_values("operator"))
    kinds = [manifest["kind"] for manifest in manifests]
    assert "Deployment" not in kinds
    assert "Job" not in kinds
    deployment = of(manifests, "RestateDeployment")
    assert deployment["spec"]["restate"] == {"servicePath": "/restate", "register": {"cluster": "my-cluster"}}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0] == {"name": "restate", "containerPort": 9080}
    target = of(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["apiVersion"] == deployment["apiVersion"]
    assert (target["kind"], target["name"]) == ("RestateDeployment", deployment["metadata"]["name"])


def test_the_operators_cluster_may_call_the_pods() -> None:
    """Its network policy lets calls out to pods with this label."""
    pod = of(render(single("restate.clusterName", "prod")), "Deployment")["spec"]["template"]
    assert pod["metadata"]["labels"]["allow.restate.dev/prod"] == "true"


def test_the_network_policy_lets_each_in_to_its_own_port() -> None:
    """Restate to the internal port, the gateway and the test to the streams, Prometheus to the metrics alone."""
    policy = of(render(ci_values("ingress")), "NetworkPolicy")["spec"]
    restate, streams, metrics = policy["ingress"]
    assert restate["ports"] == [{"port": "restate"}]
    assert metrics["ports"] == [{"port": "metrics"}]
    assert streams["ports"] == [{"port": "http"}]
    assert streams["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert policy["policyTypes"] == ["Ingress"]


def test_the_monitor_selects_one_service() -> None:
    """The streams' Service has the same pods: they would be scraped twice."""
    manifests = render({"serviceMonitor": {"enabled": True}})
    selector = of(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    chosen = [
        each for each in manifests if each["kind"] == "Service" and selector <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in chosen] == ["live-restate-pubsub-restate"]
    assert {endpoint["port"] for endpoint in of(manifests, "ServiceMonitor")["spec"]["endpoints"]} == {"metrics"}
    assert "metrics" in [port["name"] for port in chosen[0]["spec"]["ports"]]


SECRETS = ("secrets", {"RESTATE_AUTH_TOKEN": "token", "PUBSUB_JWT_KEY": "my-token" * 4})
KEPT = {name: {"name": "kept", "key": name} for name in SECRETS[1]}


@pytest.mark.parametrize("values", [dict([SECRETS]), {"existingSecrets": KEPT}])
@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("Deployment", {"RESTATE_AUTH_TOKEN", "PUBSUB_JWT_KEY"}),
        ("Job", {"RESTATE_AUTH_TOKEN"}),
        ("Pod", {"RESTATE_AUTH_TOKEN", "PUBSUB_JWT_KEY"}),
    ],
)
def test_a_pod_gets_the_secrets_that_it_needs(values: dict[str, Any], kind: str, needed: set[str]) -> None:
    """One by one, by name: a Secret as a whole would give each pod what is added for another."""
    manifests = render(values)
    pod = dict(pods(manifests))[kind]
    assert needed == environment(manifests, pod).keys() & set(settings.secrets())
    (container,) = pod["spec"]["containers"]
    assert not any("secretRef" in source for source in container["envFrom"])


@pytest.mark.parametrize(
    "exposed",
    [
        {"ingress": {"enabled": True, "hosts": ["a.example.com"]}},
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        {"service": {"type": "LoadBalancer"}},
        {"service": {"type": "NodePort"}},
    ],
)
def test_the_notes_warn_of_topics_that_are_exposed_without_a_key(exposed: dict[str, Any]) -> None:
    """To all who reach the address; with a key there is nothing to warn of."""
    assert "WARNING: no key is set. Whoever reaches this address reads every" in texts(exposed)["NOTES.txt"]
    writable = deep_merge(exposed, {"settings": {"PUBSUB_PUBLISH_ENABLED": True}})
    assert "reads, writes and deletes every topic" in texts(writable)["NOTES.txt"]
    locked = deep_merge(exposed, {"secrets": {"PUBSUB_JWT_KEY": "my-token" * 4}})
    assert "WARNING" not in texts(locked)["NOTES.txt"]
    assert "WARNING" not in texts({})["NOTES.txt"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, False),
        ({"secrets": {"PUBSUB_JWT_KEY": "my-token" * 4}}, True),
        ({"existingSecrets": {"PUBSUB_JWT_KEY": {"name": "a", "key": "b"}}}, True),
        ({"settings": {"PUBSUB_JWKS_URL": "https://id.example.com/jwks"}}, True),
    ],
)
def test_the_notes_say_that_readers_need_a_token(values: dict[str, Any], *, said: bool) -> None:
    """Where they do."""
    assert ("Readers need a token" in texts(values)["NOTES.txt"]) is said


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://localhost:8000/pubsub/hello"),
        (ci_values("ingress"), "https://streams.example.com/pubsub/hello"),
        ({"ingress": {"enabled": True, "hosts": ["plain.example.com"]}}, "http://plain.example.com/pubsub/hello"),
        (ci_values("httproute"), "https://streams.example.com/events/hello"),
        ({"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "https://YOUR-GATEWAY/pubsub/hello"),
        (ci_values("loadbalancer"), "http://$(kubectl -n apps get service live-restate-pubsub -o jsonpath="),
        (
            single("service.type", "NodePort"),
            "http://NODE:$(kubectl -n apps get service live-restate-pubsub -o jsonpath=",
        ),
    ],
)
def test_the_notes_have_the_url_and_the_command_for_a_first_message(values: dict[str, Any], url: str) -> None:
    """For the way that the streams are exposed."""
    notes = texts(values)["NOTES.txt"]
    assert f'curl -N "{url}' in notes
    assert "restate-pubsub publish hello" in notes
    assert ("port-forward" in notes) is (not values)


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({}, True),
        ({"className": "nginx-internal"}, True),
        ({"className": "traefik"}, False),
        ({"className": "public", "nginx": True}, True),
        ({"nginx": False}, False),
    ],
)
def test_nginx_s_annotations_are_only_where_nginx_is(ingress: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """An annotation of one's own stays, and wins."""
    own = {"nginx.ingress.kubernetes.io/proxy-read-timeout": "60", "own": "x"}
    values = {"ingress": {"enabled": True, "hosts": ["a.example.com"], "annotations": own, **ingress}}
    annotations = of(render(values), "Ingress")["metadata"]["annotations"]
    assert {name: annotations[name] for name in own} == own
    assert (len(annotations) > len(own)) == expected


def test_the_autoscaler_looks_at_cores_not_at_the_request() -> None:
    """Seventy percent of a small request would be a fifth of what a process can use."""
    (metric,) = of(render({"autoscaling": {"enabled": True}}), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "700m"}}


def test_two_ways_in_are_said() -> None:
    """They work, and double what has to be kept in step."""
    both = {
        "ingress": {"enabled": True, "hosts": ["a.example.com"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    }
    said = "There are two ways in, an Ingress and an HTTPRoute"
    assert said in texts(both)["NOTES.txt"]
    assert said not in texts({"ingress": both["ingress"]})["NOTES.txt"]


@every
def test_values_mean_the_same_from_a_file_and_by_set(values: dict[str, Any]) -> None:
    """Helm reads the numbers of a file as floats, and those of `--set` as integers."""
    assert texts(values) == {
        path: text for path, text in texts(values, integers=True).items() if path != "_integers.tpl"
    }


def test_a_secret_that_is_no_longer_in_the_values_leaves_the_cluster() -> None:
    """`stringData` only adds to what is there."""
    secret = of(render({"secrets": {"RESTATE_AUTH_TOKEN": "a token"}}), "Secret")
    assert "stringData" not in secret
    assert secret["data"] == {"RESTATE_AUTH_TOKEN": base64.b64encode(b"a token").decode()}


def test_common_labels_and_annotations_are_on_everything() -> None:
    """Also on the pods that serve; but selectors, which cannot change, have none of them."""
    manifests = render(ALL["labels and annotations"])
    pod = of(manifests, "Deployment")["spec"]["template"]
    for metadata in [pod["metadata"], *(manifest["metadata"] for manifest in manifests)]:
        assert metadata["labels"]["team"] == "chat"
        assert metadata["annotations"]["owner"] == "chat@example.com"
    assert "team" not in of(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    assert of(manifests, "Job")["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"


def test_one_value_brings_a_certificate() -> None:
    """For all hosts; one's own `tls` stays."""
    values: dict[str, Any] = ALL["certificate"]
    ingress = of(render(values), "Ingress")
    assert ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"
    hosts = values["ingress"]["hosts"]
    assert ingress["spec"]["tls"] == [{"secretName": f"{ingress['metadata']['name']}-tls", "hosts": hosts}]
    own = [{"secretName": "own", "hosts": hosts}]
    assert of(render(deep_merge(values, {"ingress": {"tls": own}})), "Ingress")["spec"]["tls"] == own


def test_a_hook_of_one_s_own_stays_beside_the_pause() -> None:
    """Of the same moment, it takes the pause's place."""
    values = {"lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}
    (container,) = of(render(values), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["lifecycle"] == {**values["lifecycle"], "preStop": {"sleep": {"seconds": 5}}}
    own = {"preStop": {"exec": {"command": ["sleep", "9"]}}}
    (container,) = of(render({"lifecycle": own}), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["lifecycle"] == own, "Kubernetes takes one handler for each moment"


def test_keda_takes_the_autoscaler_s_place() -> None:
    """It counts the streams of this release's pods, and makes the autoscaler itself."""
    manifests = render(ci_values("keda"))
    assert not [manifest for manifest in manifests if manifest["kind"] == "HorizontalPodAutoscaler"]
    scaled = of(manifests, "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == of(manifests, "Deployment")["metadata"]["name"]
    streams, cpu = scaled["triggers"]
    assert streams["metadata"]["query"] == 'sum(restate_pubsub_streams{namespace="apps",pod=~"live-restate-pubsub-.*"})'
    assert (streams["metadata"]["threshold"], cpu["metadata"]["value"]) == ("5000", "700m")
