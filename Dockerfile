# featlift in a container. CPU:   docker build -t featlift .
#                          CUDA:  docker build -t featlift:cuda --build-arg TORCH=cu128 .
# then:                           docker run --rm [--gpus all] -v "$PWD:/data" featlift extract scans/ -o features.zarr
# TORCH names a wheel index of pytorch.org; CUDA comes with these wheels, so that the driver is all a host needs.
FROM python:3.11-slim

ARG TORCH=cpu
ARG EXTRAS=demo,register
WORKDIR /opt/featlift
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY featlift featlift
RUN pip install --no-cache-dir --extra-index-url "https://download.pytorch.org/whl/${TORCH}" -c constraints.txt ".[${EXTRAS}]"

# Weights and measured offsets stay where the host mounts them: -v "$HOME/.cache:/cache"
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface
WORKDIR /data
ENTRYPOINT ["featlift"]
CMD ["--help"]
