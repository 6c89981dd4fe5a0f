{{/* What every pod of the chart has in common: who it runs as and where. Takes a list: root, uid. */}}
{{- define "waypost.pod" -}}
{{- $root := index . 0 -}}
{{- $uid := index . 1 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $uid }}
  runAsGroup: {{ $uid }}
  fsGroup: {{ $uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $root.Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* The restricted pod security standard, and a file system that cannot be written. */}}
{{- define "waypost.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
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
    secretKeyRef: {{- include "waypost.databaseSecret" . | nindent 6 }}
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

{{/* A Service for Prometheus alone. Takes a list: root, component. */}}
{{- define "waypost.metricsService" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
apiVersion: v1
kind: Service
metadata: {{- include "waypost.metadata" (list $root "metrics" (printf "-%s-metrics" $component)) | nindent 2 }}
spec:
  clusterIP: None
  selector: {{- include "waypost.selector" (list $root $component) | nindent 4 }}
  ports:
    - {name: metrics, port: 9464, targetPort: metrics}
{{- end -}}

{{- define "waypost.configEnvironment" -}}
- {name: WAYPOST_CONFIG, value: /etc/waypost/waypost.toml}
{{- end -}}
