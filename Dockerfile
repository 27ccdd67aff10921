# ORFEAS in a container, in two targets:
#   sketch  the built-in engine, for hosts without a GPU; no PyTorch
#   full    (the default) Hunyuan3D too, with PyTorch's CUDA wheels
#
#   docker build --target sketch -t orfeas:sketch .
#   docker build --build-arg CUDA=12 -t orfeas:full .
#
# CUDA=13 takes the newest PyTorch that requirements.txt allows: its wheels hold CUDA 13 and need NVIDIA driver 580 or
# newer. CUDA=12 takes PyTorch below 2.11: its wheels hold CUDA 12 and need driver 525 or newer. The host needs the
# driver and nvidia-container-toolkit, nothing else.
#
# No weights are in either: they lie on the volume /models. Results and uploads lie on /data. The root file system may
# be read-only; /tmp has to be writable.

ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build-sketch
WORKDIR /build
COPY requirements.txt ./
RUN python3 -m venv /opt/orfeas \
    && grep -vE '^(torch|safetensors)[^a-z]' requirements.txt > sketch.txt \
    && /opt/orfeas/bin/pip install --no-cache-dir --disable-pip-version-check -r sketch.txt

FROM build-sketch AS build-full
ARG CUDA=13
RUN case "${CUDA}" in 13) torch='torch' ;; 12) torch='torch<2.11' ;; *) echo "CUDA is 12 or 13" >&2; exit 1 ;; esac \
    && /opt/orfeas/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt "${torch}"

FROM ${BASE} AS runtime
# The base image is what is pinned; Debian keeps one version of tini in a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin orfeas \
    && install --directory --owner=1000 --group=1000 /data /models
ENV PATH=/opt/orfeas/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    ORFEAS_DATA_DIR=/data \
    ORFEAS_LOG_FORMAT=json \
    ORFEAS_HOST=0.0.0.0 \
    ORFEAS_PORT=7860
WORKDIR /app
EXPOSE 7860
USER 1000:1000
# Alive, not idle: a server that is full or drains is left alone. Starting takes seconds; weights are read later.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 7860, timeout=4); c.request('GET', '/health'); c.getresponse()"]
ENTRYPOINT ["tini", "--", "python"]
CMD ["app.py"]

FROM runtime AS sketch
ENV ORFEAS_ENGINE=sketch
COPY --from=build-sketch /opt/orfeas /opt/orfeas
COPY . /app
USER 0:0
# Git made the files with the builder's umask; with 027 the app's user could read none of them.
RUN chmod -R a+rX /app
USER 1000:1000

FROM runtime AS full
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-full /opt/orfeas /opt/orfeas
COPY . /app
USER 0:0
# Git made the files with the builder's umask; with 027 the app's user could read none of them.
RUN chmod -R a+rX /app
USER 1000:1000
