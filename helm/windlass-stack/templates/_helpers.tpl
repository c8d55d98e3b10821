{{- define "windlass-stack.selectorLabels" -}}
app.kubernetes.io/name: windlass-stack
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of an object of a component: dict "root" $ "component" "postgresql". */}}
{{- define "windlass-stack.labels" -}}
{{ include "windlass-stack.selectorLabels" . }}
app.kubernetes.io/part-of: windlass
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "windlass-stack.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .runAsUser }}
  runAsGroup: {{ .runAsUser }}
  fsGroup: {{ .runAsUser }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "windlass-stack.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Labels of a pod, which restarts when they change. */}}
{{- define "windlass-stack.podLabels" -}}
{{ include "windlass-stack.selectorLabels" . }}
app.kubernetes.io/part-of: windlass
{{- end }}

{{- /* The data of a StatefulSet ends with the pod unless it has a claim. */}}
{{- define "windlass-stack.dataClaim" -}}
{{- if .persistence.enabled -}}
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests: {storage: {{ .persistence.size }}}
{{- end }}
{{- end }}
