{{- define "ambit-agent.name" -}}
{{ .Values.resourceName | default "ambit-agent" }}
{{- end -}}

{{- define "ambit-agent.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ .Values.global.hub }}/{{ .Values.image }}:{{ .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ambit-agent.controlNamespace" -}}
{{ .Values.global.istioNamespace | default .Release.Namespace }}
{{- end -}}

{{- define "ambit-agent.controlAddress" -}}
istiod.{{ include "ambit-agent.controlNamespace" . }}.svc:15012
{{- end -}}

{{- define "ambit-agent.excludedNamespaces" -}}
{{- $all := concat .Values.excludeNamespaces (list .Release.Namespace (include "ambit-agent.controlNamespace" .)) -}}
{{ $all | uniq | join "," }}
{{- end -}}

{{- define "ambit-agent.selectorLabels" -}}
app: ztunnel
app.kubernetes.io/name: ambit-agent
app.kubernetes.io/instance: {{ include "ambit-agent.name" . }}
{{- end -}}

{{- define "ambit-agent.labels" -}}
{{ include "ambit-agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Both folders are given: nothing but them needs to be visible. */ -}}
{{- define "ambit-agent.narrowMounts" -}}
{{- if and .Values.cniBinDir .Values.cniConfDir }}yes{{ end -}}
{{- end -}}
