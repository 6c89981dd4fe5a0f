{{/* Where the URL of the database is kept: a Secret's name and key. */}}
{{- define "waypost.databaseSecret" -}}
{{- $made := .Values.database.trial.existingSecret | default (printf "%s-postgres" (include "waypost.fullname" .)) -}}
{{- ternary .Values.database.urlSecret (dict "name" $made "key" "url") (ne .Values.database.urlSecret.name "") | toJson -}}
{{- end -}}

{{- define "waypost.redisSecret" -}}
{{- $made := .Values.redis.trial.existingSecret | default (printf "%s-redis" (include "waypost.fullname" .)) -}}
{{- ternary .Values.redis.urlSecret (dict "name" $made "key" "url") (ne .Values.redis.urlSecret.name "") | toJson -}}
{{- end -}}

{{- define "waypost.adminSecret" -}}
{{- $name := .Values.adminTokenSecret.name | default (printf "%s-admin" (include "waypost.fullname" .)) -}}
{{- dict "name" $name "key" .Values.adminTokenSecret.key | toJson -}}
{{- end -}}

{{/*
What a Secret in the cluster holds, else 32 random characters. Where helm asks no cluster, as in `helm template`, they
are others each time: there a Secret has to be named. Takes a list: root, the Secret's name, key.
*/}}
{{- define "waypost.kept" -}}
{{- $secret := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- get ($secret.data | default dict) (index . 2) | b64dec | default (randAlphaNum 32) -}}
{{- end -}}

{{/*
The names of settings that hold a key in plain text, each with a blank before it. Takes a list: value, its name.
Secret are what the gateway says is, addresses with a password or a key in them, and what looks like a key.
*/}}
{{- define "waypost.plainKeys" -}}
{{- $value := index . 0 -}}
{{- $name := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $part := $value -}}
{{- include "waypost.plainKeys" (list $key $name) -}}
{{- include "waypost.plainKeys" (list $part (printf "%s.%s" $name $key)) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $value }}{{ include "waypost.plainKeys" (list . $name) }}{{ end -}}
{{- else if not (or (kindIs "invalid" $value) (regexMatch "^\\$[A-Za-z_][A-Za-z0-9_]*$" (toString $value))) -}}
{{- $signs := list
  "://[^/?#\\s]*@"
  "(?i:[?&](api[-_]?)?(key|token|secret|password|sig)=)"
  "-----BEGIN [A-Z ]*PRIVATE KEY"
  "\\b(sk-|sk_|gsk_|xai-|ghp_|github_pat_|hf_|r8_|AKIA|ASIA|AIza)[A-Za-z0-9_-]{16,}"
  "\\bwp-[0-9a-f]{12}-" -}}
{{- $is := or (regexMatch (include "waypost.secretSettings" nil) $name) (regexMatch (join "|" $signs) (toString $value)) -}}
{{- if $is }} {{ $name }}{{ end -}}
{{- end -}}
{{- end -}}
