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

{{/* The chart's own labels over those of values, lest a selector misses. Takes a list: root, component, labels. */}}
{{- define "waypost.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "waypost.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- mustMergeOverwrite (dict) $root.Values.commonLabels (index . 2 | default dict) $own | toYaml -}}
{{- end -}}

{{/*
Name, namespace, labels and annotations of an object. Takes a list: root, component, suffix of the name, values with
the object's labels and annotations, and the chart's own annotations where it has some.
*/}}
{{- define "waypost.metadata" -}}
{{- $root := index . 0 -}}
{{- $values := index . 3 -}}
{{- $own := ternary (last .) (dict) (gt (len .) 4) -}}
name: {{ include "waypost.fullname" $root }}{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "waypost.labels" (list $root (index . 1) $values.labels) | nindent 2 }}
{{- with mustMergeOverwrite (dict) $root.Values.commonAnnotations ($values.annotations | default dict) $own }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "waypost.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "waypost.fullname" .) -}}
{{- end -}}
