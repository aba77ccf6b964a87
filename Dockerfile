# The server in a container: --target cpu (the default) or --target gpu.
#
#   make image && docker run --rm -p 127.0.0.1:50051:50051 inkling:cpu
#
# `make image` names the base by its digest (requirements/base-image.txt), so that a tag that moves changes nothing.
ARG BASE=python:3.12-slim-bookworm

# requirements/ has versions and hashes. Only wheels are taken: a source archive would fetch build tools without hashes.
FROM ${BASE} AS build
WORKDIR /source
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements/build.txt

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY serve serve
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM build AS build-cpu
RUN pip install --no-cache-dir --prefix=/install --require-hashes --only-binary :all: --requirement requirements/cpu.txt
COPY --from=wheel /wheels /wheels
RUN pip install --prefix=/install --no-deps /wheels/*.whl

FROM build AS build-gpu
RUN pip install --no-cache-dir --prefix=/install --require-hashes --only-binary :all: --requirement requirements/gpu.txt
COPY --from=wheel /wheels /wheels
RUN pip install --prefix=/install --no-deps /wheels/*.whl

FROM ${BASE} AS base
# The base has its standard library as text alone, which every process would compile again at each start.
RUN python -m compileall -q -x '/(test|tests|idlelib|tkinter|lib2to3|ensurepip|pydoc_data|turtledemo|site-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# Empty and not writable: what a model file or a flag names by a relative path is not there.
WORKDIR /empty
# The commit that the image is built from, for its label and for the metric inkling_build_info.
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="Inkling" \
    org.opencontainers.image.description="Serves image classifiers over gRPC and HTTP with ONNX Runtime" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${COMMIT}"
# In a container the whole network reaches a port only if it is published.
ENV INKLING_COMMIT=${COMMIT} \
    INKLING_SERVE_HOST=0.0.0.0 \
    INKLING_SERVE_METRICS_HOST=0.0.0.0 \
    INKLING_SERVE_WEB_HOST=0.0.0.0 \
    INKLING_SERVE_PORT=50051 \
    INKLING_SERVE_MAX_CONNECTION_AGE_S=300 \
    INKLING_SERVE_MODELS=/models \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# gRPC, metrics and, with --web-port 8080, the page.
EXPOSE 50051 9464 8080
# python is process 1 and gets SIGTERM itself.
ENTRYPOINT ["python", "-m", "serve"]
# Over plain HTTP, so that it works beside TLS. No proxy of the environment is asked.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('INKLING_SERVE_METRICS_PORT', 9464)), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

FROM base AS gpu
COPY --from=build-gpu /install /usr/local
COPY models /models
USER 10001:10001

# Last, so that it is the default.
FROM base AS cpu
COPY --from=build-cpu /install /usr/local
COPY models /models
USER 10001:10001
