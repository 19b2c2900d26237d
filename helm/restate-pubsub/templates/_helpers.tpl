{{/* Names leave room for the suffixes that this chart and Restate's operator add. */}}
{{- define "restate-pubsub.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 51 | trimSuffix "-" -}}
{{- end -}}

{{- define "restate-pubsub.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 51 | trimSuffix "-" -}}
{{- else if contains (include "restate-pubsub.name" .) .Release.Name -}}
{{- .Release.Name | trunc 51 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "restate-pubsub.name" .) | trunc 51 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The Service by which Restate reaches the object. Its URL is the deployment's identity in Restate. */}}
{{- define "restate-pubsub.restateService" -}}
{{- include "restate-pubsub.fullname" . }}-restate
{{- end -}}

{{- define "restate-pubsub.peersService" -}}
{{- include "restate-pubsub.fullname" . }}-peers
{{- end -}}

{{- define "restate-pubsub.serviceAccountName" -}}
{{- default (ternary (include "restate-pubsub.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "restate-pubsub.selectorLabels" -}}
app.kubernetes.io/name: {{ include "restate-pubsub.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of everything; takes the context. */}}
{{- define "restate-pubsub.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "restate-pubsub.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
What every object has above its spec. Takes a dict: `root`, the context; and as wanted `suffix` of the name, or the whole
`name`, `component`, more `labels`, and `annotations`.
*/}}
{{- define "restate-pubsub.metadata" -}}
{{- $root := .root -}}
name: {{ default (printf "%s%s" (include "restate-pubsub.fullname" $root) (default "" .suffix)) .name }}
namespace: {{ $root.Release.Namespace }}
labels:
{{ include "restate-pubsub.labels" $root | indent 2 }}
{{- with .component }}
  app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .labels }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- with mergeOverwrite dict (deepCopy $root.Values.commonAnnotations) (default dict .annotations) }}
annotations:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* The pods that serve: neither the registration's nor the test's. */}}
{{- define "restate-pubsub.serverLabels" -}}
{{ include "restate-pubsub.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "restate-pubsub.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* A value as the environment has it. Helm reads whole numbers as floats, and would write 4194304 as 4.194304e+06. */}}
{{- define "restate-pubsub.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* A duration such as 20s, 1m or 500ms in whole seconds, rounded up. */}}
{{- define "restate-pubsub.seconds" -}}
{{- $text := include "restate-pubsub.text" . | trim -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text -}}
{{- $unit := trim (trimPrefix $number $text) -}}
{{- $milliseconds := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) (default "s" $unit) -}}
{{- ceil (divf (mulf (float64 $number) $milliseconds) 1000) | int64 -}}
{{- end -}}

{{/* A size as Kubernetes or a setting writes it (1Gi, 512M, 256MiB, 4096) in whole bytes; 0 for what is neither. */}}
{{- define "restate-pubsub.bytes" -}}
{{- $text := include "restate-pubsub.text" . | trim -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text -}}
{{- $unit := trimPrefix $number $text | trim | lower | trimSuffix "b" -}}
{{- $factor := get (dict "" 1 "k" 1000 "m" 1000000 "g" 1000000000 "t" 1000000000000 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776) $unit -}}
{{- mulf (float64 (default "0" $number)) (default 0 $factor) | int64 -}}
{{- end -}}

{{/* What a pod may need: the process itself, its streams at 50 KiB, and the recent messages of all topics. */}}
{{- define "restate-pubsub.memoryNeeded" -}}
{{- $streams := int64 (default 10000 .Values.settings.PUBSUB_MAX_STREAMS) -}}
{{- $rings := int64 (include "restate-pubsub.bytes" (default "256MiB" .Values.settings.PUBSUB_RINGS_MAX_BYTES)) -}}
{{- add (mul 128 1048576) (mul $streams 51200) $rings -}}
{{- end -}}

{{/* Settings that templates need too: their defaults are those of the service, which a test holds them to. */}}
{{- define "restate-pubsub.ssePath" -}}
{{- default "/pubsub" .Values.settings.PUBSUB_SSE_PATH -}}
{{- end -}}
{{- define "restate-pubsub.restatePath" -}}
{{- default "/restate" .Values.settings.PUBSUB_RESTATE_PATH -}}
{{- end -}}
{{- define "restate-pubsub.drainSeconds" -}}
{{- include "restate-pubsub.seconds" (default "20s" .Values.settings.PUBSUB_DRAIN_TIMEOUT) -}}
{{- end -}}

{{- define "restate-pubsub.gracePeriod" -}}
{{- $least := add (int64 .Values.preStopSeconds) (int64 (include "restate-pubsub.drainSeconds" .)) -}}
{{- default (add $least 5) .Values.terminationGracePeriodSeconds | int64 -}}
{{- end -}}

{{/* The endpoint as Restate reaches it. */}}
{{- /* Not empty where readers need tokens. */ -}}
{{- define "restate-pubsub.tokens" -}}
{{- if or (hasKey .Values.settings "PUBSUB_JWKS_URL") (hasKey .Values.secrets "PUBSUB_JWT_KEY") (hasKey .Values.existingSecrets "PUBSUB_JWT_KEY") -}}yes{{- end -}}
{{- end -}}

{{- define "restate-pubsub.endpointUrl" -}}
{{- default (printf "http://%s.%s.svc:9080%s" (include "restate-pubsub.restateService" .) .Release.Namespace (include "restate-pubsub.restatePath" .)) .Values.registration.url -}}
{{- end -}}

{{/* The settings that are no secrets. PUBSUB_BIND: the streams' address, then that of Restate and the kubelet. */}}
{{- define "restate-pubsub.settings" -}}
RESTATE_INGRESS_URL: {{ .Values.restate.ingressUrl | quote }}
RESTATE_ADMIN_URL: {{ .Values.restate.adminUrl | quote }}
{{- with .Values.restate.identityKeys }}
PUBSUB_RESTATE_IDENTITY_KEYS: {{ join "," . | quote }}
{{- end }}
PUBSUB_BIND: {{ printf "%s:8000,%s:9080" .Values.bindHost .Values.bindHost | quote }}
PUBSUB_METRICS_BIND: {{ printf "%s:9090" .Values.bindHost | quote }}
{{- if .Values.peers.enabled }}
PUBSUB_PEERS: {{ printf "%s.%s.svc" (include "restate-pubsub.peersService" .) .Release.Namespace | quote }}
{{- end }}
{{- range $variable, $value := .Values.settings }}
{{ $variable }}: {{ include "restate-pubsub.text" $value | quote }}
{{- end }}
{{- with .Values.tracing }}
{{- if .endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_SERVICE_NAME: {{ default (include "restate-pubsub.fullname" $) .serviceName | quote }}
OTEL_TRACES_SAMPLER: {{ .sampler | quote }}
OTEL_TRACES_SAMPLER_ARG: {{ include "restate-pubsub.text" .samplerArgument | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The environment of a container that runs the image: the ConfigMap, what the user adds, and those secrets that it needs.
Takes the context, a list of secret settings by their names, and, for the pods that serve, "serves": each of those says
at which address the others reach it.
*/}}
{{- define "restate-pubsub.environment" -}}
{{- $root := index . 0 -}}
{{- $needed := index . 1 -}}
{{- $advertises := and (eq (len .) 3) $root.Values.peers.enabled -}}
{{- $own := list -}}
{{- range $variable, $value := $root.Values.secrets -}}
{{- if has $variable $needed -}}{{- $own = append $own $variable -}}{{- end -}}
{{- end -}}
{{- $existing := dict -}}
{{- range $variable, $from := $root.Values.existingSecrets -}}
{{- if has $variable $needed -}}{{- $_ := set $existing $variable $from -}}{{- end -}}
{{- end -}}
envFrom:
  - configMapRef:
      name: {{ include "restate-pubsub.fullname" $root }}
{{- if or $own $existing $root.Values.extraEnv $advertises }}
env:
{{- if $advertises }}
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  - name: PUBSUB_ADVERTISE
    value: http://$(POD_IP):9080
{{- end }}
{{- range $own }}
  - name: {{ . }}
    valueFrom:
      secretKeyRef:
        name: {{ include "restate-pubsub.fullname" $root }}
        key: {{ . }}
{{- end }}
{{- range $variable, $from := $existing }}
  - name: {{ $variable }}
    valueFrom:
      secretKeyRef:
        name: {{ $from.name }}
        key: {{ $from.key | quote }}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* All secret settings: the pods that serve need each that is set. */}}
{{- define "restate-pubsub.allSecrets" -}}
{{- keys .Values.secrets .Values.existingSecrets | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* What every pod of this chart has in common. */}}
{{- define "restate-pubsub.podBasics" -}}
serviceAccountName: {{ include "restate-pubsub.serviceAccountName" . }}
automountServiceAccountToken: false
# Else every Service nearby becomes variables here, and one named "pubsub" would look like settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . | indent 2 }}
{{- end }}
securityContext:
{{ toYaml .Values.podSecurityContext | indent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
volumes:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* What every container of this chart has in common. */}}
{{- define "restate-pubsub.containerBasics" -}}
image: {{ include "restate-pubsub.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
{{ toYaml .Values.securityContext | indent 2 }}
{{- end -}}

{{/* What is scaled. The RestateDeployment's definition has a scale too; its operator fills in the status. */}}
{{- define "restate-pubsub.scaled" -}}
apiVersion: {{ ternary "restate.dev/v1beta1" "apps/v1" .Values.restate.operator.enabled }}
kind: {{ ternary "RestateDeployment" "Deployment" .Values.restate.operator.enabled }}
name: {{ include "restate-pubsub.fullname" . }}
{{- end -}}
