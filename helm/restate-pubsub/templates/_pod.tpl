{{/* The pods that serve, for the Deployment and the RestateDeployment. */}}
{{- define "restate-pubsub.podTemplate" -}}
metadata:
  annotations:
    # A changed setting is a new pod, and with the operator a new version.
    checksum/settings: {{ include "restate-pubsub.settings" . | sha256sum | trunc 16 }}
{{- if .Values.secrets }}
    checksum/secrets: {{ toJson .Values.secrets | sha256sum | trunc 16 }}
{{- end }}
{{- with mergeOverwrite dict (deepCopy .Values.commonAnnotations) .Values.podAnnotations }}
{{ toYaml . | indent 4 }}
{{- end }}
  labels:
{{ include "restate-pubsub.serverLabels" . | indent 4 }}
{{- with .Values.restate.clusterName }}
    allow.restate.dev/{{ . }}: "true"
{{- end }}
{{- with .Values.commonLabels }}
{{ toYaml . | indent 4 }}
{{- end }}
{{- with .Values.podLabels }}
{{ toYaml . | indent 4 }}
{{- end }}
spec:
{{ include "restate-pubsub.podBasics" . | indent 2 }}
  terminationGracePeriodSeconds: {{ include "restate-pubsub.gracePeriod" . }}
{{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
{{- end }}
{{- with .Values.affinity }}
  affinity:
{{ toYaml . | indent 4 }}
{{- end }}
  topologySpreadConstraints:
{{- with .Values.topologySpreadConstraints }}
{{ toYaml . | indent 4 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      # Each version is spread by itself, or a rollout would end lopsided.
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels:
{{ include "restate-pubsub.serverLabels" $ | indent 10 }}
{{- end }}
{{- end }}
{{- with .Values.initContainers }}
  initContainers:
{{ toYaml . | indent 4 }}
{{- end }}
  containers:
    - name: restate-pubsub
{{ include "restate-pubsub.containerBasics" . | indent 6 }}
      args: [serve]
      ports:
        # The operator takes the port of this name.
        - name: restate
          containerPort: 9080
        - name: http
          containerPort: 8000
        - name: metrics
          containerPort: 9090
{{ include "restate-pubsub.environment" (list . (include "restate-pubsub.allSecrets" . | fromJsonArray) "serves") | indent 6 }}
      startupProbe:
        httpGet: {path: /health/live, port: restate}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health/live, port: restate}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        # Not before Restate has answered once; but neither registration nor an outage of Restate takes pods out of the
        # Service: the first needs ready pods, and in the second open streams wait while new ones would be refused.
        httpGet: {path: "/health/ready?object=optional", port: restate}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
{{- /* Endpoints are taken away meanwhile: who comes later would be refused by a process that drains. */}}
{{- $hooks := deepCopy .Values.lifecycle }}
{{- if not $hooks.preStop }}
{{- $_ := set $hooks "preStop" (dict "sleep" (dict "seconds" (int64 .Values.preStopSeconds))) }}
{{- end }}
      lifecycle:
{{ toYaml $hooks | indent 8 }}
{{- with .Values.extraVolumeMounts }}
      volumeMounts:
{{ toYaml . | indent 8 }}
{{- end }}
{{- with .Values.resources }}
      resources:
{{ toYaml . | indent 8 }}
{{- end }}
{{- with .Values.extraContainers }}
{{ toYaml . | indent 4 }}
{{- end }}
{{- end -}}
