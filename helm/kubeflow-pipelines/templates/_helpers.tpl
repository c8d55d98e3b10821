{{- define "kubeflow-pipelines.selectorLabels" -}}
app.kubernetes.io/name: kubeflow-pipelines
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of an object of a component: dict "root" $ "component" "api-server". */}}
{{- define "kubeflow-pipelines.labels" -}}
{{ include "kubeflow-pipelines.selectorLabels" . }}
app.kubernetes.io/part-of: windlass
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* Metadata of a namespaced object: dict "root" $ "component" "api-server" "name" "ml-pipeline". */}}
{{- define "kubeflow-pipelines.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "kubeflow-pipelines.labels" . | nindent 2 }}
{{- end }}

{{- /* Labels of a pod, which restarts when they change. */}}
{{- define "kubeflow-pipelines.podLabels" -}}
{{ include "kubeflow-pipelines.selectorLabels" . }}
app.kubernetes.io/part-of: windlass
{{- end }}

{{- /* Reference of an image: dict "root" $ "name" "apiServer". */}}
{{- define "kubeflow-pipelines.image" -}}
{{- $images := .root.Values.images -}}
{{- $image := index $images .name -}}
{{- if and $images.requireDigests (not $image.digest) }}
{{- fail (printf "images.%s.digest is not set, and images.requireDigests is true" .name) }}
{{- end -}}
{{ $image.repository }}:{{ $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* Fields of a pod: dict "root" $ "account" "ml-pipeline" "user" 1000 "token" true "nodeSelector" dict. */}}
{{- define "kubeflow-pipelines.pod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token }}
# Variables of Services would change the settings of these programs, which read variables of the same names.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with merge (dict) (.nodeSelector | default dict) $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* Fields of a container: dict "root" $ "image" "apiServer" "resources" .Values.apiServer.resources. */}}
{{- define "kubeflow-pipelines.container" -}}
image: {{ include "kubeflow-pipelines.image" (dict "root" .root "name" .image) }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
resources: {{- toYaml .resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "kubeflow-pipelines.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata: {{- include "kubeflow-pipelines.metadata" . | nindent 2 }}
automountServiceAccountToken: {{ .token | default false }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Binds the Role of a component to the account of the same name. */}}
{{- define "kubeflow-pipelines.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{- include "kubeflow-pipelines.metadata" . | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{- /* The object store as JSON: secure, host, port. */}}
{{- define "kubeflow-pipelines.objectStore" -}}
{{- $endpoint := tpl (required "objectStore.endpoint is not set: set it to the URL of the S3 server" .Values.objectStore.endpoint) . }}
{{- $url := urlParse $endpoint }}
{{- $secure := eq $url.scheme "https" }}
{{- if not (or $secure (eq $url.scheme "http")) }}
{{- fail (printf "objectStore.endpoint %q is not a URL with http or https" $endpoint) }}
{{- end }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" $secure) }}
{{- dict "secure" $secure "host" $url.hostname "port" (int $port) | toJson }}
{{- end }}

{{- define "kubeflow-pipelines.objectStoreSecret" -}}
{{- $store := .Values.objectStore }}
{{- $existing := not (empty $store.existingSecret) }}
{{- dict
  "name" ($store.existingSecret | default "kubeflow-pipelines-object-store")
  "accessKeyId" (ternary $store.existingSecretAccessKeyIdKey "accessKeyId" $existing)
  "secretAccessKey" (ternary $store.existingSecretSecretAccessKeyKey "secretAccessKey" $existing) | toJson }}
{{- end }}

{{- define "kubeflow-pipelines.mysqlSecret" -}}
{{- $mysql := .Values.mysql }}
{{- $existing := not (empty $mysql.existingSecret) }}
{{- dict
  "name" ($mysql.existingSecret | default "kubeflow-pipelines-mysql")
  "password" (ternary $mysql.existingSecretPasswordKey "password" $existing)
  "rootPassword" (ternary $mysql.existingSecretRootPasswordKey "root-password" $existing) | toJson }}
{{- end }}
