{{/* Combinations that cannot work, each refused with a sentence that says why and what to do. */}}
{{- define "restate-pubsub.guards" -}}
{{- $restate := .Values.restate -}}
{{- $operator := $restate.operator -}}
{{- $registration := .Values.registration -}}

{{- if $operator.enabled -}}
{{- $targets := 0 -}}
{{- range list $operator.register.cluster $operator.register.cloud $operator.register.url $operator.register.service -}}
{{- if . -}}{{- $targets = add1 $targets -}}{{- end -}}
{{- end -}}
{{- if ne (int $targets) 1 -}}
{{- fail (printf "restate.operator.register names %d places to register with: the operator needs exactly one of cluster, cloud, url and service" (int $targets)) -}}
{{- end -}}
{{- if or $registration.url $registration.force -}}
{{- fail "registration.url and registration.force have no effect with restate.operator.enabled: the operator registers each version at a URL of its own; remove them" -}}
{{- end -}}
{{- end -}}

{{- $token := or (hasKey .Values.secrets "RESTATE_AUTH_TOKEN") (hasKey .Values.existingSecrets "RESTATE_AUTH_TOKEN") -}}
{{- range $name, $url := dict "restate.ingressUrl" $restate.ingressUrl "restate.adminUrl" $restate.adminUrl -}}
{{- if regexMatch "^https?://[^/]*[.]restate[.]cloud([:/]|$)" $url -}}
{{- if not $token -}}
{{- fail (printf "%s is Restate Cloud (%s), which needs a token: set existingSecrets.RESTATE_AUTH_TOKEN to the name and key of a Secret that has it" $name $url) -}}
{{- end -}}
{{- if not $restate.identityKeys -}}
{{- fail (printf "%s is Restate Cloud (%s), which calls the object from outside: set restate.identityKeys to your environment's key (publickeyv1_…), or anyone could invoke it" $name $url) -}}
{{- end -}}
{{- if and $registration.enabled (not $operator.enabled) (not $registration.url) -}}
{{- fail (printf "%s is Restate Cloud (%s), which cannot reach a Service in this cluster: set registration.url to the URL of your tunnel or gateway, or use restate.operator with register.cloud" $name $url) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $variable, $value := .Values.secrets -}}
{{- if hasKey $.Values.existingSecrets $variable -}}
{{- fail (printf "%s is in secrets and in existingSecrets: keep it in one of them" $variable) -}}
{{- end -}}
{{- end -}}
{{- $key := get .Values.secrets "PUBSUB_JWT_KEY" -}}
{{- if and $key (not (contains "-----BEGIN" $key)) (lt (len $key) 32) -}}
{{- fail (printf "secrets.PUBSUB_JWT_KEY has %d bytes: a shared secret needs 32, or the service does not start" (len $key)) -}}
{{- end -}}
{{- if and (hasKey .Values.settings "PUBSUB_JWKS_URL") (or $key (hasKey .Values.existingSecrets "PUBSUB_JWT_KEY")) -}}
{{- fail "PUBSUB_JWT_KEY and settings.PUBSUB_JWKS_URL are both set: one place decides which keys are good; take one of them out" -}}
{{- end -}}
{{- range $origin := splitList "," (toString (get .Values.settings "PUBSUB_CORS_ORIGINS")) -}}
{{- if hasSuffix "/" (trim $origin) -}}
{{- fail (printf "settings.PUBSUB_CORS_ORIGINS has %s: an origin ends with its host or port, without the slash" (trim $origin)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^(PUBSUB_|RESTATE_(INGRESS_URL|ADMIN_URL|AUTH_TOKEN)$)" .name -}}
{{- fail (printf "extraEnv has %s, which is a setting: put it under settings, secrets or existingSecrets, where it is checked" .name) -}}
{{- end -}}
{{- end -}}

{{- if not (include "restate-pubsub.tokens" .) -}}
{{- range $variable := list "PUBSUB_JWT_ALGORITHMS" "PUBSUB_JWT_AUDIENCE" "PUBSUB_JWT_ISSUER" -}}
{{- if hasKey $.Values.settings $variable -}}
{{- fail (printf "settings.%s says what a token must have, but without a key everybody may read: set settings.PUBSUB_JWKS_URL, or PUBSUB_JWT_KEY under secrets or existingSecrets" $variable) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $sse := include "restate-pubsub.ssePath" . -}}
{{- $mount := include "restate-pubsub.restatePath" . -}}
{{- if or (hasPrefix (print $sse "/") (print $mount "/")) (hasPrefix (print $mount "/") (print $sse "/")) -}}
{{- fail (printf "settings.PUBSUB_SSE_PATH (%s) and settings.PUBSUB_RESTATE_PATH (%s) overlap: exposing the streams would expose the Restate endpoint; give each its own path" $sse $mount) -}}
{{- end -}}

{{- with .Values.terminationGracePeriodSeconds -}}
{{- $least := add (int64 $.Values.preStopSeconds) (int64 (include "restate-pubsub.drainSeconds" $)) -}}
{{- if le (int64 .) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but stopping takes up to %d seconds (preStopSeconds and PUBSUB_DRAIN_TIMEOUT): raise it above that, or leave it empty" (int64 .) $least) -}}
{{- end -}}
{{- end -}}

{{- with dig "limits" "memory" "" .Values.resources -}}
{{- $limit := int64 (include "restate-pubsub.bytes" .) -}}
{{- $needed := int64 (include "restate-pubsub.memoryNeeded" $) -}}
{{- if and $limit (lt $limit $needed) -}}
{{- fail (printf "resources.limits.memory is %s, but PUBSUB_MAX_STREAMS (50 KiB each) and PUBSUB_RINGS_MAX_BYTES may take %dMi with the process itself, and the pod would be killed with all of its streams: raise the limit, or lower them" (include "restate-pubsub.text" .) (div (add $needed 1048575) 1048576)) -}}
{{- end -}}
{{- end -}}

{{- $rolling := default dict .Values.strategy.rollingUpdate -}}
{{- if and (not $operator.enabled) (eq .Values.strategy.type "RollingUpdate") (hasKey $rolling "maxSurge") (has (toString $rolling.maxSurge) (list "0" "0%")) (has (toString $rolling.maxUnavailable) (list "0" "0%")) -}}
{{- fail "strategy.rollingUpdate has neither maxSurge nor maxUnavailable: no pod could ever be replaced; raise maxSurge" -}}
{{- end -}}

{{- if and (eq .Values.service.type "ClusterIP") .Values.service.nodePort -}}
{{- fail "service.nodePort needs service.type NodePort or LoadBalancer: a ClusterIP Service has no port on the nodes" -}}
{{- end -}}

{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts: name the host that browsers connect to" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: name the Gateway that frontends come through" -}}
{{- end -}}

{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d): raise the second" (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- end -}}
{{- if not (or .targetCPU .targetStreamsPerPod) -}}
{{- fail "autoscaling.enabled needs something to look at: set targetCPU or targetStreamsPerPod" -}}
{{- end -}}
{{- if and .prometheusUrl (not .targetStreamsPerPod) -}}
{{- fail "autoscaling.prometheusUrl is where KEDA counts open streams: set targetStreamsPerPod, or take it out" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with .Values.podDisruptionBudget -}}
{{- if .enabled -}}
{{- $least := ternary $.Values.autoscaling.minReplicas $.Values.replicaCount $.Values.autoscaling.enabled -}}
{{- if kindIs "invalid" .minAvailable -}}
{{- if kindIs "invalid" .maxUnavailable -}}
{{- fail "podDisruptionBudget.enabled needs maxUnavailable or minAvailable" -}}
{{- else if has (include "restate-pubsub.text" .maxUnavailable) (list "0" "0%") -}}
{{- fail "podDisruptionBudget.maxUnavailable is 0: no node with one of these pods could ever be drained; set it to 1 at least" -}}
{{- end -}}
{{- else -}}
{{- /* Kubernetes rounds a percentage up. A number is a float64 from a file, and an int64 from --set. */ -}}
{{- $kept := 0 -}}
{{- if kindIs "string" .minAvailable -}}
{{- $kept = divf (mulf (float64 (trimSuffix "%" .minAvailable)) (int64 $least)) 100 | ceil -}}
{{- else -}}
{{- $kept = .minAvailable -}}
{{- end -}}
{{- if ge (int64 $kept) (int64 $least) -}}
{{- fail (printf "podDisruptionBudget.minAvailable (%s) keeps every one of %d pods: no node with one of them could ever be drained; lower it" (include "restate-pubsub.text" .minAvailable) (int64 $least)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: every pod would be scraped twice; keep one of them" -}}
{{- end -}}

{{- with .Values.networkPolicy -}}
{{- if .enabled -}}
{{- if not .from.restate -}}
{{- fail "networkPolicy.from.restate is empty: Restate could not call the object; name the namespace that it runs in" -}}
{{- end -}}
{{- if not .from.gateway -}}
{{- fail "networkPolicy.from.gateway is empty: nobody could open a stream; name the namespace of your gateway or ingress controller" -}}
{{- end -}}
{{- if and (or $.Values.serviceMonitor.enabled $.Values.podMonitor.enabled) (not .from.prometheus) -}}
{{- fail "networkPolicy.from.prometheus is empty, but serviceMonitor.enabled or podMonitor.enabled: Prometheus could not scrape the pods; name the namespace that it runs in" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
