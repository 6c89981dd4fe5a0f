{{- define "waypost.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is appended to it. */}}
{{- define "waypost.fullname" -}}
{{- $name := include "waypost.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{/* What never changes about the pods of a component. Takes a list: root, component. */}}
{{- define "waypost.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "waypost.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes a list: root, component. */}}
{{- define "waypost.labels" -}}
{{- $root := index . 0 -}}
{{ include "waypost.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name, namespace and labels of an object. Takes a list: root, component, suffix of the name. */}}
{{- define "waypost.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "waypost.fullname" $root }}{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "waypost.labels" (list $root (index . 1)) | nindent 2 }}
{{- end -}}

{{- define "waypost.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "waypost.fullname" .) -}}
{{- end -}}

{{/* Where the URL of the database is kept: a Secret's name and key, as YAML. */}}
{{- define "waypost.databaseSecret" -}}
{{- $given := .Values.database.urlSecret -}}
name: {{ $given.name | default (printf "%s-postgres" (include "waypost.fullname" .)) }}
key: {{ ternary $given.key "url" (ne $given.name "") }}
{{- end -}}

{{- define "waypost.redisSecret" -}}
{{- $given := .Values.redis.urlSecret -}}
name: {{ $given.name | default (printf "%s-redis" (include "waypost.fullname" .)) }}
key: {{ ternary $given.key "url" (ne $given.name "") }}
{{- end -}}
