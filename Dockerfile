# What `compressor serve` needs and nothing that makes artifacts: no PyTorch, no compiler, no root.
#
#   docker build -t compressor-serve .
#   docker run -p 8000:8000 -v $PWD/runs/mine/artifacts/int8:/artifact:ro compressor-serve
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY compressor ./compressor
COPY exporters ./exporters
COPY benchmarks ./benchmarks
RUN python -m venv /opt/compressor
RUN /opt/compressor/bin/pip install --no-cache-dir --disable-pip-version-check '.[serve]'

FROM python:3.11-slim
COPY --from=build /opt/compressor /opt/compressor
ENV PATH=/opt/compressor/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --start-period=10s --interval=10s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/ready', timeout=5)"]
ENTRYPOINT ["compressor", "serve", "--host", "0.0.0.0"]
CMD ["/artifact"]
