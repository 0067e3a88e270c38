# With a compiler, since not every dependency has a wheel for every machine.
FROM python:3.12 AS build
COPY pyproject.toml README.md /src/
COPY app /src/app
RUN pip install --no-cache-dir --prefix=/install '/src[s3]'

FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    MINI_S3_HOST=0.0.0.0 \
    MINI_S3_DATA_DIR=/data

# A new named volume on /data takes over the owner that it has here.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin mini-s3 \
    && install --directory --owner=mini-s3 --group=mini-s3 --mode=0750 /data

COPY --from=build /install /usr/local

USER mini-s3
WORKDIR /data
VOLUME /data
EXPOSE 3000

# Without proxies: those of the environment are not for a call to ourselves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:3000/ready', timeout=4)"]

ENTRYPOINT ["mini-s3", "serve"]
