{{- define "ambit-control.suffix" -}}
{{- if .Values.revision }}-{{ .Values.revision }}{{ end -}}
{{- end -}}

{{- define "ambit-control.name" -}}
ambit-control{{ include "ambit-control.suffix" . }}
{{- end -}}

{{- /* Objects of the cluster: two releases in different namespaces must not share them. */ -}}
{{- define "ambit-control.clusterName" -}}
{{ include "ambit-control.name" . }}-{{ .Release.Namespace }}
{{- end -}}

{{- /* Not empty: objects of the cluster are to be made, or those in a namespace. */ -}}
{{- define "ambit-control.clusterScope" -}}
{{- if ne .Values.global.resourceScope "namespace" }}yes{{ end -}}
{{- end -}}
{{- define "ambit-control.namespaceScope" -}}
{{- if ne .Values.global.resourceScope "cluster" }}yes{{ end -}}
{{- end -}}

{{- define "ambit-control.service" -}}
istiod{{ include "ambit-control.suffix" . }}
{{- end -}}

{{- define "ambit-control.webhookName" -}}
ambit-validation{{ include "ambit-control.suffix" . }}
{{- end -}}

{{- define "ambit-control.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ .Values.global.hub }}/{{ .Values.image }}:{{ .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ambit-control.rootNamespace" -}}
{{ .Values.global.istioNamespace | default .Release.Namespace }}
{{- end -}}

{{- define "ambit-control.agentAccount" -}}
{{ .Values.trustedZtunnelNamespace | default .Release.Namespace }}/{{ .Values.trustedZtunnelName }}
{{- end -}}

{{- define "ambit-control.selectorLabels" -}}
app: istiod
app.kubernetes.io/name: ambit-control
app.kubernetes.io/instance: {{ include "ambit-control.name" . }}
{{- end -}}

{{- define "ambit-control.standardLabels" -}}
{{ include "ambit-control.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.revision }}
istio.io/rev: {{ . }}
{{- end }}
{{- end -}}

{{- /* Ours win: what selects pods must not be changed by a value. */ -}}
{{- define "ambit-control.labels" -}}
{{ toYaml (mergeOverwrite (dict) .Values.labels (include "ambit-control.standardLabels" . | fromYaml)) }}
{{- end -}}

{{- define "ambit-control.podLabels" -}}
{{- $own := include "ambit-control.labels" . | fromYaml -}}
{{- $mesh := dict "istio.io/dataplane-mode" "none" "sidecar.istio.io/inject" "false" -}}
{{ toYaml (mergeOverwrite (dict) $own .Values.podLabels $mesh (include "ambit-control.selectorLabels" . | fromYaml)) }}
{{- end -}}

{{- /* A user's win: whoever scrapes otherwise says so here. */ -}}
{{- define "ambit-control.podAnnotations" -}}
{{- $own := dict "prometheus.io/scrape" "true" "prometheus.io/port" "15014" "prometheus.io/path" "/metrics" -}}
{{ toYaml (mergeOverwrite $own .Values.podAnnotations) }}
{{- end -}}
