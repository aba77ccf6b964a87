# The server in a container: --target cpu (the default) or --target gpu.
#
#   docker build -t inkling . && docker run --rm -p 127.0.0.1:50051:50051 inkling

# By digest, so that a tag that moves changes nothing here: the index of all platforms of Python 3.12.15 on Debian 12.15.
# `docker buildx imagetools inspect python:3.12-slim-bookworm` shows the newest.
ARG BASE=python:3.12-slim-bookworm@sha256:54c85f3c47607a77f32adec749d3c81d1348bf25833671f512b26a9b6d778cb3

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
# Empty and not writable: what a model file or a flag names by a relative path is not there.
WORKDIR /empty
# The commit that the image is built from, for the metric inkling_build_info.
ARG COMMIT=unknown
# In a container the whole network reaches a port only if it is published.
ENV INKLING_COMMIT=${COMMIT} \
    INKLING_SERVE_HOST=0.0.0.0 \
    INKLING_SERVE_METRICS_HOST=0.0.0.0 \
    INKLING_SERVE_PORT=50051 \
    INKLING_SERVE_MAX_CONNECTION_AGE_S=300 \
    INKLING_SERVE_MODELS=/models \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 50051 9464
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
