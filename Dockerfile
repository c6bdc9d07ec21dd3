# Transfer Lab in a container; docs/operations.md says how to run it. On the processor:
#   docker build -t transfer-lab .
# On NVIDIA GPUs, whose torch is PyPI's:
#   docker build -t transfer-lab --build-arg TORCH_INDEX=https://pypi.org/simple .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS libraries
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/libraries
ENV PATH=/opt/libraries/bin:$PATH
WORKDIR /build
COPY requirements.txt requirements-lock.txt ./
# The versions of the lock, without its hashes: those are of PyPI's torch. Nothing is compiled.
RUN grep '^[^ #].*==' requirements-lock.txt | sed 's/ *\\$//' > versions.txt \
    && pip install --only-binary :all: --no-deps --index-url "$TORCH_INDEX" -c versions.txt torch torchvision \
    && pip install --only-binary :all: -c versions.txt -r requirements.txt

FROM libraries AS program
COPY pyproject.toml README.md LICENSE ./
COPY examples examples
COPY tl_core tl_core
COPY tl_ui tl_ui
RUN pip install --no-deps --no-build-isolation --target /opt/program .

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 lab && install --directory --owner lab --group lab /data
# One layer that changes with the requirements, and a small one that changes with the program.
COPY --from=libraries /opt/libraries /opt/libraries
COPY --from=program /opt/program /opt/program
ENV PATH=/opt/program/bin:/opt/libraries/bin:$PATH PYTHONPATH=/opt/program PYTHONUNBUFFERED=1 \
    TL_DATA_DIR=/data HF_HOME=/data/weights/hub TORCH_HOME=/data/weights/torch
USER lab
WORKDIR /home/lab
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:7860/healthz', timeout=8)"]
ENTRYPOINT ["transfer-lab"]
CMD ["--no-open", "--host", "0.0.0.0", "--port", "7860"]
