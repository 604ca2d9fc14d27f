{{- define "ambit-agent.name" -}}
{{ .Values.resourceName | default "ambit-agent" }}
{{- end -}}

{{- /* Objects of the cluster: two releases in different namespaces must not share them. */ -}}
{{- define "ambit-agent.clusterName" -}}
{{ include "ambit-agent.name" . }}-{{ .Release.Namespace }}
{{- end -}}

{{- /* Not empty: objects of the cluster are to be made, or those in a namespace. */ -}}
{{- define "ambit-agent.clusterScope" -}}
{{- if ne .Values.global.resourceScope "namespace" }}yes{{ end -}}
{{- end -}}
{{- define "ambit-agent.namespaceScope" -}}
{{- if ne .Values.global.resourceScope "cluster" }}yes{{ end -}}
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
istiod{{ if .Values.revision }}-{{ .Values.revision }}{{ end }}.{{ include "ambit-agent.controlNamespace" . }}.svc:15012
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

{{- define "ambit-agent.standardLabels" -}}
{{ include "ambit-agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.revision }}
istio.io/rev: {{ . }}
{{- end }}
{{- end -}}

{{- /* Ours win: what selects pods must not be changed by a value. */ -}}
{{- define "ambit-agent.labels" -}}
{{ toYaml (mergeOverwrite (dict) .Values.labels (include "ambit-agent.standardLabels" . | fromYaml)) }}
{{- end -}}

{{- define "ambit-agent.podLabels" -}}
{{- $own := include "ambit-agent.labels" . | fromYaml -}}
{{- $mesh := dict "istio.io/dataplane-mode" "none" "sidecar.istio.io/inject" "false" -}}
{{ toYaml (mergeOverwrite (dict) $own .Values.podLabels $mesh (include "ambit-agent.selectorLabels" . | fromYaml)) }}
{{- end -}}

{{- /* A user's win: whoever scrapes otherwise says so here. */ -}}
{{- define "ambit-agent.podAnnotations" -}}
{{- $own := dict "prometheus.io/scrape" "true" "prometheus.io/port" "15020" "prometheus.io/path" "/metrics" -}}
{{ toYaml (mergeOverwrite $own .Values.podAnnotations) }}
{{- end -}}

{{- /* Both folders are given: nothing but them needs to be visible. */ -}}
{{- define "ambit-agent.narrowMounts" -}}
{{- if and .Values.cniBinDir .Values.cniConfDir }}yes{{ else if or .Values.cniBinDir .Values.cniConfDir }}{{ fail "cniBinDir and cniConfDir belong together: name both folders, or none to have them found" }}{{ end -}}
{{- end -}}

{{- define "ambit-agent.seLinuxOptions" -}}
{{- if .Values.seLinuxOptions -}}
{{ toYaml .Values.seLinuxOptions }}
{{- else if eq .Values.global.platform "openshift" -}}
type: spc_t
{{- end -}}
{{- end -}}
