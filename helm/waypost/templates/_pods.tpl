{{/*
A pod template: what is a pod's own, what values say of all pods, and what they say of these. Takes a dict:
  root, component
  values    of the component
  spec      what is its own, as YAML; its first container is the one that values are about
  settings  text whose change replaces the pods, where there is one
  user      whom the image runs as, where that is not one of Waypost's
*/}}
{{- define "waypost.podTemplate" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $spec := fromYaml .spec -}}
{{- with $spec.Error }}{{ fail . }}{{ end -}}
{{- $main := first $spec.containers -}}
{{- $said := dict -}}
{{- range list "podLabels" "podAnnotations" "podSecurityContext" "securityContext" "nodeSelector" "affinity" "podSpec" -}}
{{- $common := get $root.Values . | default dict | deepCopy -}}
{{- $_ := set $said . (mustMergeOverwrite $common (get $values . | default dict | deepCopy)) -}}
{{- end -}}
{{- range list "tolerations" "extraEnv" "extraEnvFrom" "extraVolumes" "extraVolumeMounts" -}}
{{- $_ := set $said . (concat (get $root.Values . | default list) (get $values . | default list)) -}}
{{- end -}}

{{- /* The restricted pod security standard, and a file system that cannot be written. */ -}}
{{- $confined := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if not $root.Values.openshift -}}
{{- $user := .user | default 10001 -}}
{{- $confined = merge $confined (dict
  "runAsUser" $user "runAsGroup" $user "fsGroup" $user "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end -}}
{{- $pod := mustMergeOverwrite (dict "automountServiceAccountToken" false "enableServiceLinks" false) $said.podSpec -}}
{{- $_ := set $pod "securityContext" (mustMergeOverwrite $confined $said.podSecurityContext) -}}
{{- range $name, $value := dict
  "imagePullSecrets" $root.Values.imagePullSecrets
  "nodeSelector" $said.nodeSelector
  "tolerations" $said.tolerations
  "affinity" $said.affinity
  "priorityClassName" ($values.priorityClassName | default $root.Values.priorityClassName)
  "initContainers" $values.initContainers -}}
{{- if $value }}{{ $_ := set $pod $name $value }}{{ end -}}
{{- end -}}

{{- $environment := $main.env | default list -}}
{{- $mounts := $main.volumeMounts | default list -}}
{{- $volumes := $spec.volumes | default list -}}
{{- $authority := $root.Values.certificateAuthority -}}
{{- if and (or $authority.configMap $authority.secret) (not .user) -}}
{{- $items := list (dict "key" $authority.key "path" "ca.crt") -}}
{{- $source := ternary
  (dict "configMap" (dict "name" $authority.configMap "items" $items))
  (dict "secret" (dict "secretName" $authority.secret "items" $items))
  (ne $authority.configMap "") -}}
{{- $volumes = append $volumes (merge (dict "name" "authority") $source) -}}
{{- $mounts = append $mounts (dict "name" "authority" "mountPath" "/etc/waypost-authority" "readOnly" true) -}}
{{- $environment = append $environment (dict "name" "SSL_CERT_FILE" "value" "/etc/waypost-authority/ca.crt") -}}
{{- end -}}
{{- range $name, $value := dict
  "env" (include "waypost.laidOver" (list "name" $environment $said.extraEnv) | fromJsonArray)
  "envFrom" (concat ($main.envFrom | default list) $said.extraEnvFrom)
  "volumeMounts" (include "waypost.laidOver" (list "mountPath" $mounts $said.extraVolumeMounts) | fromJsonArray) -}}
{{- $_ := set $main $name $value -}}
{{- if not $value }}{{ $_ := unset $main $name }}{{ end -}}
{{- end -}}
{{- range list "startupProbe" "readinessProbe" "livenessProbe" -}}
{{- $probe := get $values . -}}
{{- if $probe -}}
{{- $own := get $main . | default dict -}}
{{- if or $probe.httpGet $probe.tcpSocket $probe.exec $probe.grpc -}}
{{- $own = omit $own "httpGet" "tcpSocket" "exec" "grpc" -}}
{{- end -}}
{{- $_ := set $main . (mustMergeOverwrite (deepCopy $own) $probe) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $main "resources" $values.resources -}}
{{- $_ := set $main "securityContext" (mustMergeOverwrite
  (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")))
  $said.securityContext) -}}
{{- $_ := set $pod "containers" (concat $spec.containers ($values.sidecars | default list)) -}}
{{- with include "waypost.laidOver" (list "name" $volumes $said.extraVolumes) | fromJsonArray -}}
{{- $_ := set $pod "volumes" . -}}
{{- end -}}

{{- $metadata := dict "labels" (include "waypost.labels" (list $root .component $said.podLabels) | fromYaml) -}}
{{- $annotations := mustMergeOverwrite (dict) $root.Values.commonAnnotations $said.podAnnotations -}}
{{- with .settings }}{{ $_ := set $annotations "checksum/settings" (sha256sum .) }}{{ end -}}
{{- with $annotations }}{{ $_ := set $metadata "annotations" . }}{{ end -}}
{{- dict "metadata" $metadata "spec" (mustMergeOverwrite (omit $spec "containers" "volumes") $pod) | toYaml -}}
{{- end -}}

{{/* Lists joined; of two items with the same key the later one counts. Takes a list: key, lists. */}}
{{- define "waypost.laidOver" -}}
{{- $key := index . 0 -}}
{{- $items := dict -}}
{{- $order := list -}}
{{- range rest . }}{{ range . -}}
{{- $order = append $order (get . $key) -}}
{{- $_ := set $items (get . $key) . -}}
{{- end }}{{ end -}}
{{- $joined := list -}}
{{- range uniq $order }}{{ $joined = append $joined (get $items .) }}{{ end -}}
{{- toJson $joined -}}
{{- end -}}

{{/* Takes a list: root, the image's values. */}}
{{- define "waypost.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- end -}}

{{- define "waypost.databaseEnvironment" -}}
- name: WAYPOST_DATABASE_URL
  valueFrom:
    secretKeyRef: {{ include "waypost.databaseSecret" . }}
{{- end -}}

{{/* The volume of routers, policies and the spool; without a claim each pod has its own. */}}
{{- define "waypost.dataVolume" -}}
- name: data
  {{- if or .Values.data.existingClaim .Values.data.create }}
  persistentVolumeClaim:
    claimName: {{ .Values.data.existingClaim | default (printf "%s-data" (include "waypost.fullname" .)) }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}

{{/* One file of the ConfigMap as /etc/waypost/waypost.toml. Takes a list: root, file. */}}
{{- define "waypost.settingsVolume" -}}
- name: settings
  configMap:
    name: {{ include "waypost.fullname" (index . 0) }}
    items:
      - {key: {{ index . 1 }}, path: waypost.toml}
{{- end -}}

{{- define "waypost.mounts" -}}
- {name: settings, mountPath: /etc/waypost, readOnly: true}
- {name: data, mountPath: /var/lib/waypost}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* A Service for Prometheus alone. Takes a list: root, component, its values. */}}
{{- define "waypost.metricsService" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
apiVersion: v1
kind: Service
metadata: {{- include "waypost.metadata" (list $root "metrics" (printf "-%s-metrics" $component) (index . 2)) | nindent 2 }}
spec:
  clusterIP: None
  selector: {{- include "waypost.selector" (list $root $component) | nindent 4 }}
  ports:
    - {name: metrics, port: 9464, targetPort: metrics}
{{- end -}}

{{- define "waypost.configEnvironment" -}}
- {name: WAYPOST_CONFIG, value: /etc/waypost/waypost.toml}
{{- end -}}
