# An image that holds models and nothing else: a modelcar of KServe, or an image volume of Kubernetes.
#
#   docker build --file deploy/kserve/models.Dockerfile --tag registry.example/inkling-models:1 models
#
# KServe's modelcar runs a shell in it, so the base has one.
FROM busybox:1.37
COPY . /models
USER 10001:10001
