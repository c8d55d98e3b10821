{{- define "windlass.selectorLabels" -}}
app.kubernetes.io/name: windlass
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of an object of a component: dict "root" $ "component" "api". */}}
{{- define "windlass.labels" -}}
{{ include "windlass.selectorLabels" . }}
app.kubernetes.io/part-of: windlass
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* Reference of an image: dict "root" $ "image" .Values.images.ray. */}}
{{- define "windlass.image" -}}
{{- $images := .root.Values.images -}}
{{- with $images.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}
{{- else }}:{{ .image.tag | default $images.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "windlass.imagePullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "windlass.secretName" -}}
{{ .Values.secrets.existingSecret | default "windlass-secrets" }}
{{- end }}

{{- define "windlass.databaseSecretName" -}}
{{ .Values.database.existingSecret | default "windlass-database" }}
{{- end }}

{{- define "windlass.objectStoreSecretName" -}}
{{ .Values.objectStore.existingSecret | default "windlass-object-store" }}
{{- end }}

{{- /* The scheduling fields of a pod: dict "root" $ "component" "api" "values" .Values.api. */}}
{{- define "windlass.scheduling" -}}
{{- $root := .root -}}
{{- $values := .values | default dict -}}
{{- with $values.nodeSelector | default $root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations | default $root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity | default $root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "windlass.topologySpread" -}}
topologySpreadConstraints:
{{- with .values.topologySpreadConstraints }}
{{- toYaml . | nindent 2 }}
{{- else }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "windlass.selectorLabels" $ | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "windlass.podMetadata" -}}
labels:
  {{- include "windlass.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  windlass.dev/settings: {{ include "windlass.settingsDigest" .root }}
  {{- with .values.podAnnotations | default .root.Values.podAnnotations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- /* Pods restart when the settings change, or the Secrets that the chart creates from values. */}}
{{- define "windlass.settingsDigest" -}}
{{- $secrets := list .Values.database .Values.objectStore .Values.secrets -}}
{{ printf "%s%s" (toJson .Values.settings) (toJson $secrets) | sha256sum }}
{{- end }}

{{- define "windlass.caBundleEnv" -}}
{{- if .Values.caBundle.configMap }}
- {name: WINDLASS_CA_BUNDLE, value: /etc/windlass/ca/ca.crt}
{{- end }}
{{- end }}

{{- /* Key of the URL of a role in the Secret of the database: dict "root" $ "component" "api", "worker" or another one,
       which gets that of the owner of the tables. Without a role of its own a component has the owner's. */}}
{{- define "windlass.databaseKey" -}}
{{- $database := .root.Values.database }}
{{- if $database.existingSecret -}}
{{ get (dict "api" $database.existingSecretApiKey "worker" $database.existingSecretWorkerKey) .component | default $database.existingSecretKey }}
{{- else -}}
{{ ternary (printf "%s-url" .component) "url" (not (empty (get (dict "api" $database.apiUrl "worker" $database.workerUrl) .component))) }}
{{- end }}
{{- end }}

{{- /* Environment of a component that uses the database in its role: dict "root" $ "component" "api". */}}
{{- define "windlass.databaseEnv" -}}
- name: WINDLASS_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "windlass.databaseSecretName" .root }}
      key: {{ include "windlass.databaseKey" . }}
{{- include "windlass.caBundleEnv" .root }}
{{- end }}

{{- /* Environment of a migration: the URL of the owner, and those whose roles it creates.
       dict "root" $ "secret" the name of the Secret. */}}
{{- define "windlass.migrationEnv" -}}
{{- $root := .root }}{{- $secret := .secret }}
{{- $roles := dict "migration" "WINDLASS_DATABASE_URL" }}
{{- if .root.Values.database.createRoles }}
{{- $roles = dict "migration" "WINDLASS_DATABASE_URL" "api" "WINDLASS_DATABASE_API_URL" "worker" "WINDLASS_DATABASE_WORKER_URL" }}
{{- end }}
{{- range $component, $variable := $roles }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ include "windlass.databaseKey" (dict "root" $root "component" $component) }}
{{- end }}
{{- include "windlass.caBundleEnv" .root }}
{{- end }}

{{- define "windlass.migrationArgs" -}}
[python, -m, windlass.db, upgrade{{ if .Values.database.createRoles }}, --create-roles{{ end }}]
{{- end }}

{{- define "windlass.objectStoreEnv" -}}
{{- $store := .Values.objectStore -}}
{{- $existing := not (empty $store.existingSecret) -}}
- {name: WINDLASS_S3_ENDPOINT, value: {{ tpl $store.endpoint . | quote }}}
- {name: WINDLASS_S3_PUBLIC_ENDPOINT, value: {{ tpl $store.publicEndpoint . | quote }}}
- {name: WINDLASS_S3_BUCKET, value: {{ $store.bucket | quote }}}
- {name: WINDLASS_S3_REGION, value: {{ $store.region | quote }}}
{{- if or $existing $store.accessKeyId }}
- name: WINDLASS_S3_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ include "windlass.objectStoreSecretName" . }}
      key: {{ ternary $store.existingSecretAccessKeyIdKey "accessKeyId" $existing }}
- name: WINDLASS_S3_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "windlass.objectStoreSecretName" . }}
      key: {{ ternary $store.existingSecretSecretAccessKeyKey "secretAccessKey" $existing }}
{{- end }}
{{- end }}

{{- define "windlass.secretsEnv" -}}
{{- $existing := not (empty .Values.secrets.existingSecret) -}}
- name: WINDLASS_SECRETS_PEPPER
  valueFrom:
    secretKeyRef:
      name: {{ include "windlass.secretName" . }}
      key: {{ ternary .Values.secrets.existingSecretPepperKey "pepper" $existing }}
- name: WINDLASS_SECRETS_ADMIN_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "windlass.secretName" . }}
      key: {{ ternary .Values.secrets.existingSecretAdminKeyKey "admin-key" $existing }}
{{- end }}

{{- define "windlass.oidcEnv" -}}
{{- with .Values.oidc }}
{{- with .publicUrl }}
- {name: WINDLASS_OIDC_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- if .issuer }}
- {name: WINDLASS_OIDC_ISSUER, value: {{ .issuer | quote }}}
- {name: WINDLASS_OIDC_CLIENT_ID, value: {{ .clientId | quote }}}
- {name: WINDLASS_OIDC_DEVICE_CLIENT_ID, value: {{ .deviceClientId | quote }}}
- {name: WINDLASS_OIDC_AUDIENCE, value: {{ .audience | quote }}}
- {name: WINDLASS_OIDC_NAME_CLAIM, value: {{ .nameClaim | quote }}}
- {name: WINDLASS_OIDC_GROUPS_CLAIM, value: {{ .groupsClaim | quote }}}
- {name: WINDLASS_OIDC_SCOPE, value: {{ .scope | quote }}}
- {name: WINDLASS_OIDC_PLATFORM_ADMIN_GROUPS, value: {{ join "," .platformAdminGroups | quote }}}
- {name: WINDLASS_OIDC_PLATFORM_VIEWER_GROUPS, value: {{ join "," .platformViewerGroups | quote }}}
- {name: WINDLASS_OIDC_SESSION_HOURS, value: {{ .sessionHours | quote }}}
{{- if .existingSecret }}
- name: WINDLASS_OIDC_CLIENT_SECRET
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .existingSecretKey }}}
{{- end }}
{{- end }}{{- end }}
{{- end }}

{{- define "windlass.clusterEnv" -}}
- {name: WINDLASS_CLUSTER_SYSTEM_NAMESPACE, value: {{ .Release.Namespace }}}
- {name: WINDLASS_CLUSTER_INTERNAL_URL, value: "http://windlass-internal.{{ .Release.Namespace }}.svc:8742"}
- {name: WINDLASS_CLUSTER_PIPELINES_IMAGE, value: {{ include "windlass.image" (dict "root" . "image" .Values.images.pipelines) | quote }}}
- {name: WINDLASS_CLUSTER_RAY_IMAGE, value: {{ include "windlass.image" (dict "root" . "image" .Values.images.ray) | quote }}}
- {name: WINDLASS_CLUSTER_RAY_VERSION, value: {{ .Values.images.ray.rayVersion | quote }}}
{{- with include "windlass.pipelinesEnv" . }}{{ . }}{{ end }}
{{- end }}

{{- define "windlass.pipelinesEnv" -}}
{{- with .Values.pipelines }}{{- if eq .backend "kfp" }}
- {name: WINDLASS_PIPELINES_BACKEND, value: kfp}
- {name: WINDLASS_PIPELINES_KFP_HOST, value: {{ .kfp.host | quote }}}
- {name: WINDLASS_PIPELINES_KFP_NAMESPACE, value: {{ .kfp.namespace }}}
- {name: WINDLASS_PIPELINES_KFP_UI_URL, value: {{ .kfp.uiUrl | quote }}}
- {name: WINDLASS_PIPELINES_KFP_SERVICE_ACCOUNT, value: {{ .kfp.serviceAccount }}}
{{- if .kfp.multiUser }}
- {name: WINDLASS_PIPELINES_KFP_TOKEN_FILE, value: /var/run/secrets/kubeflow/pipelines/token}
{{- end }}
{{- end }}{{- end }}
{{- end }}

{{- /* Whether a multi-user Kubeflow Pipelines server runs the pipelines: components that call it mount a token. */}}
{{- define "windlass.hasPipelinesToken" -}}
{{- if and (eq .root.Values.pipelines.backend "kfp") .root.Values.pipelines.kfp.multiUser (has .component (list "worker" "preflight" "uninstall")) }}true{{ end }}
{{- end }}

{{- /* Whether the pods of runs are in the namespaces of projects. */}}
{{- define "windlass.hasStepsInProjects" -}}
{{- if and (eq .Values.pipelines.backend "kfp") .Values.pipelines.kfp.multiUser }}true{{ end }}
{{- end }}

{{- /* Whether the pods of runs are in the namespace of a Kubeflow Pipelines server. */}}
{{- define "windlass.hasPipelinesNamespace" -}}
{{- if and (eq .Values.pipelines.backend "kfp") (not .Values.pipelines.kfp.multiUser) }}true{{ end }}
{{- end }}

{{- /* Whether a component has the master keys: it encrypts and decrypts files of projects. */}}
{{- define "windlass.hasMasterKeys" -}}
{{- if and .root.Values.encryption.existingSecret (has .component (list "api" "worker")) }}true{{ end }}
{{- end }}

{{- /* Environment of the API and the worker: dict "root" $ "component" "api". */}}
{{- define "windlass.controlPlaneEnv" -}}
{{ include "windlass.databaseEnv" . }}
{{ include "windlass.objectStoreEnv" .root }}
{{ include "windlass.secretsEnv" .root }}
{{- if include "windlass.hasMasterKeys" . }}
- {name: WINDLASS_ENCRYPTION_MASTER_KEYS_FILE, value: /var/run/secrets/windlass/master-keys/master-keys}
{{- end }}
{{ include "windlass.clusterEnv" .root }}
{{- end }}

{{- /* What every container has: security context, a writable /tmp, and the further mounts of a component. */}}
{{- define "windlass.container" -}}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
securityContext: {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .root.Values.caBundle.configMap }}
  - {name: ca-bundle, mountPath: /etc/windlass/ca, readOnly: true}
  {{- end }}
  {{- if include "windlass.hasMasterKeys" . }}
  - {name: master-keys, mountPath: /var/run/secrets/windlass/master-keys, readOnly: true}
  {{- end }}
  {{- if include "windlass.hasPipelinesToken" . }}
  - {name: pipelines-token, mountPath: /var/run/secrets/kubeflow/pipelines, readOnly: true}
  {{- end }}
  {{- with (.values | default dict).extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- define "windlass.volumes" -}}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- with .root.Values.caBundle }}{{- if .configMap }}
  - name: ca-bundle
    configMap:
      name: {{ .configMap }}
      items: [{key: {{ .key }}, path: ca.crt}]
  {{- end }}{{- end }}
  {{- if include "windlass.hasMasterKeys" . }}
  - name: master-keys
    secret:
      secretName: {{ .root.Values.encryption.existingSecret }}
      items: [{key: {{ .root.Values.encryption.existingSecretKey }}, path: master-keys}]
  {{- end }}
  {{- if include "windlass.hasPipelinesToken" . }}
  - name: pipelines-token
    projected:
      sources: [{serviceAccountToken: {audience: pipelines.kubeflow.org, expirationSeconds: 7200, path: token}}]
  {{- end }}
  {{- with (.values | default dict).extraVolumes }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- /* Migrates the database before the container of the pod starts; concurrent migrations wait for each other.
       dict "root" $ "component" "api" "values" .Values.api. */}}
{{- define "windlass.migrationInitContainer" -}}
{{- $migration := .root.Values.migration }}
{{- if $migration.initContainer }}
initContainers:
  - name: migration
    image: {{ include "windlass.image" (dict "root" .root "image" .root.Values.images.controlPlane) }}
    args: {{ include "windlass.migrationArgs" .root }}
    env:
      {{- include "windlass.migrationEnv" (dict "root" .root "secret" (include "windlass.databaseSecretName" .root)) | nindent 6 }}
      {{- with .values.extraEnv }}{{ toYaml . | nindent 6 }}{{ end }}
    resources: {{- toYaml $migration.resources | nindent 6 }}
    {{- include "windlass.container" . | nindent 4 }}
{{- end }}
{{- end }}

{{- /* Annotations of an object of a custom resource: dict "root" $ "definition" "gpupools.windlass.dev". Helm looks up all
       kinds before it creates the first object of a release, but those of a hook later. The next upgrade finds the
       definition, and adopts the object into the release because of the release's name and namespace. */}}
{{- define "windlass.customResourceAnnotations" -}}
{{- if and .root.Values.customResources.deferred (not (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .definition)) -}}
helm.sh/hook: post-install,post-upgrade
helm.sh/hook-delete-policy: hook-failed
meta.helm.sh/release-name: {{ .root.Release.Name }}
meta.helm.sh/release-namespace: {{ .root.Release.Namespace }}
{{- end }}
{{- end }}

{{- define "windlass.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: windlass-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "windlass.labels" . | nindent 4 }}
  {{- with (.values | default dict).serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- with include "windlass.imagePullSecrets" .root }}{{ . }}{{ end }}
{{- end }}

{{- /* Binds ClusterRole windlass-COMPONENT to the account of the component. */}}
{{- define "windlass.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: windlass-{{ .component }}
  labels: {{- include "windlass.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: windlass-{{ .component }}}
subjects:
  - {kind: ServiceAccount, name: windlass-{{ .component }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{- define "windlass.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: windlass-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "windlass.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: windlass-{{ .component }}}
subjects:
  - {kind: ServiceAccount, name: windlass-{{ .component }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{- define "windlass.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: windlass-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "windlass.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "windlass.selectorLabels" . | nindent 6 }}
{{- end }}

{{- /* The accounts that the admission policies trust. Steps on a multi-user Kubeflow Pipelines server are in the namespace of
       their project, with an account there. */}}
{{- define "windlass.isTrusted" -}}
variables.user in [
{{- range $index, $component := list "operators" "worker" "runner" -}}
{{ if $index }}, {{ end }}'system:serviceaccount:{{ $.Release.Namespace }}:windlass-{{ $component }}'
{{- end }}
{{- if include "windlass.hasPipelinesNamespace" . }}, 'system:serviceaccount:{{ .Values.pipelines.kfp.namespace }}:{{ .Values.pipelines.kfp.serviceAccount }}'{{ end -}}
]
{{- if include "windlass.hasStepsInProjects" . }} || variables.user == 'system:serviceaccount:' + request.namespace + ':{{ .Values.pipelines.kfp.serviceAccount }}'{{ end }}
{{- end }}

{{- /* Whether a pod belongs to a step of Kubeflow Pipelines; request.userInfo has the account that creates it. */}}
{{- define "windlass.isStepPod" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Values.pipelines.kfp.namespace }}:{{ .Values.pipelines.kfp.workflowController }}' && object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) && o.apiVersion.startsWith('argoproj.io/') && o.kind == 'Workflow')
{{- end }}

{{- define "windlass.kueueAccount" -}}
system:serviceaccount:{{ .Values.kueue.namespace | default .Release.Namespace }}:{{ .Values.kueue.serviceAccount }}
{{- end }}

{{- define "windlass.kuberayAccount" -}}
system:serviceaccount:{{ .Values.kuberay.namespace | default .Release.Namespace }}:{{ .Values.kuberay.serviceAccount }}
{{- end }}
