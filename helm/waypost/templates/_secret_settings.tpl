{{/* Made by `python -m helm.reference`: which settings the gateway keeps secret. */}}
{{- define "waypost.secretSettings" -}}
(?s)^settings\.(budgets\.webhook_url|providers\..+\.api_key|providers\..+\.headers\..+|tracing\.headers\..+)$
{{- end -}}
