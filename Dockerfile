# Postgate in a container: the gateway and its embedded mail servers as one process, no root, data under /data.
#
#   docker build -t postgate .
#   docker run -p 127.0.0.1:8080:8080 -v postgate:/data postgate            # production: docs say which settings it wants
#   docker run -p 127.0.0.1:8080:8080 postgate demo                         # demo mail

FROM python:3.11-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --extra uvloop --no-install-project
COPY README.md LICENSE ./
COPY alembic.ini ./
COPY alembic ./alembic
COPY app ./app
COPY postgate ./postgate
RUN uv sync --frozen --no-dev --extra uvloop

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data --create-home postgate && chmod 700 /data
WORKDIR /app
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    POSTGATE_DATA_DIR=/data \
    POSTGATE_BIND=0.0.0.0
USER postgate
VOLUME /data
# HTTP, IMAP, POP3, submission, SMTP, LMTP
EXPOSE 8080 1143 1110 1587 1025 1024
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/v1/health/ready', timeout=2)"]
ENTRYPOINT ["postgate"]
CMD ["serve"]
