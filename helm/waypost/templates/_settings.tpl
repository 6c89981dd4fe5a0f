{{/*
The TOML files of each kind of process. What the chart decides (addresses, secrets, paths) is laid
over what .Values.settings says; the schema refuses the latter there.
*/}}
{{- define "waypost.databaseSettings" -}}
url: "$WAYPOST_DATABASE_URL"
wait_s: {{ .Values.database.waitSeconds }}
{{- end -}}

{{- define "waypost.gatewaySettings" -}}
{{- $server := dict
  "host" "0.0.0.0" "port" 8080
  "admin_host" "0.0.0.0" "admin_port" 8081
  "admin_token" "$WAYPOST_ADMIN_TOKEN"
  "drain_s" .Values.gateway.drainSeconds
  "shutdown_grace_s" .Values.gateway.streamGraceSeconds -}}
{{- if .Values.proxy.url }}{{ $_ := set $server "proxy_from_environment" true }}{{ end -}}
{{- $decided := dict
  "data_dir" "/var/lib/waypost"
  "server" $server
  "database" (include "waypost.databaseSettings" . | fromYaml)
  "budgets" (dict "store" "redis" "redis_url" "$WAYPOST_REDIS_URL")
  "embedded" (dict "enabled" false) -}}
{{- mustMergeOverwrite (deepCopy .Values.settings) $decided | toToml -}}
{{- end -}}

{{/* Only what it needs: a coordinator has neither the providers' keys nor a database. */}}
{{- define "waypost.coordinatorSettings" -}}
{{- $decided := dict
  "data_dir" "/var/lib/waypost"
  "federation" (dict "coordinator" (dict
    "host" "0.0.0.0" "port" 9443 "certificates" "/etc/waypost-certificates"
    "metrics_host" "0.0.0.0" "metrics_port" 9464)) -}}
{{- mustMergeOverwrite (deepCopy (pick .Values.settings "federation")) $decided | toToml -}}
{{- end -}}

{{/* What decides which rows are read and what a router is measured by, and no provider's key. */}}
{{- define "waypost.nodeSettings" -}}
{{- $decided := dict
  "data_dir" "/var/lib/waypost"
  "database" (include "waypost.databaseSettings" . | fromYaml)
  "federation" (dict "node" (dict
    "authority" "/etc/waypost-node/ca.crt" "private_key" "/etc/waypost-node/node.key"
    "metrics_host" "0.0.0.0" "metrics_port" 9464)) -}}
{{- mustMergeOverwrite (deepCopy (pick .Values.settings "federation" "routing" "profiles")) $decided | toToml -}}
{{- end -}}

{{- define "waypost.migrationSettings" -}}
{{- dict
  "data_dir" "/tmp"
  "database" (include "waypost.databaseSettings" . | fromYaml) | toToml -}}
{{- end -}}
