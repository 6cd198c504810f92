{{- define "serinus.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* At most 52 characters: names made from it get a suffix. */ -}}
{{- define "serinus.fullname" -}}
{{- $name := include "serinus.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "serinus.selectorLabels" -}}
app.kubernetes.io/name: {{ include "serinus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "serinus.labels" -}}
{{ include "serinus.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "serinus.serviceAccountName" -}}
{{- default (include "serinus.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- /* The operator as the API server knows it. */ -}}
{{- define "serinus.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "serinus.serviceAccountName" . }}
{{- end }}

{{- /* The measuring service: its name, its host, and the Secret with what opens it. */ -}}
{{- define "serinus.dora" -}}
{{ include "serinus.fullname" . }}-dora
{{- end }}

{{- define "serinus.doraHost" -}}
{{ include "serinus.dora" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "serinus.doraSecret" -}}
{{- default (include "serinus.dora" .) .Values.dora.secret }}
{{- end }}

{{- define "serinus.doraSelectorLabels" -}}
app.kubernetes.io/name: {{ include "serinus.name" . }}-dora
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Its settings. `merge` would take a false for nothing. */ -}}
{{- define "serinus.doraConfig" -}}
{{- $config := deepCopy .Values.dora.config }}
{{- range $key, $value := dict "database" "sqlite:////data/dora.db" "kubernetes" true }}
{{- if not (hasKey $config $key) }}
{{- $_ := set $config $key $value }}
{{- end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* The job that posts the report: at most 52 characters, as Kubernetes has it of CronJobs. Empty when there is none. */ -}}
{{- define "serinus.doraReport" -}}
{{- if and .Values.dora.enabled (or .Values.dora.report.url .Values.dora.report.secret) -}}
{{ include "serinus.fullname" . | trunc 40 | trimSuffix "-" }}-dora-report
{{- end }}
{{- end }}

{{- define "serinus.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- /* "policy" when the API server holds new versions, "pause" when the operator has to. */ -}}
{{- define "serinus.hold" -}}
{{- $has := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}
{{- if and .Values.admission.enabled (or .Values.admission.force $has) }}policy{{ else }}pause{{ end }}
{{- end }}

{{- /* Which writes the policies look at. */ -}}
{{- define "serinus.matchConstraints" -}}
matchPolicy: Equivalent
resourceRules:
  - apiGroups: [apps]
    apiVersions: [v1]
    operations: [UPDATE]
    resources: [deployments]
# Matches if the old or the new object has the label, so taking the label off is still looked at; the write after it is not.
objectSelector:
  matchExpressions:
    - {key: serinus.dev/canary, operator: Exists}
{{- with .Values.admission.namespaceSelector }}
namespaceSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
