# The image of an application (MITx Online, MIT xPro) with the usher command added in a separate
# virtual environment, so that the application's packages don't change. Build context: a checkout of
# Usher.
ARG APPLICATION_IMAGE
FROM ${APPLICATION_IMAGE}

USER root
COPY pyproject.toml README.md LICENSE requirements.lock /opt/usher-source/
COPY src /opt/usher-source/src
# uv installs its own Python if the application's is older than 3.11.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv \
    && UV_PYTHON_INSTALL_DIR=/opt/python /opt/uv/bin/uv venv --python '>=3.11' /opt/usher \
    && /opt/uv/bin/uv pip install --no-cache --python /opt/usher/bin/python \
       --constraint /opt/usher-source/requirements.lock '/opt/usher-source[shell]' \
    && rm -rf /opt/uv /opt/usher-source

# The user as which the application runs in its image.
ARG APPLICATION_USER=mitodl
USER ${APPLICATION_USER}
ENTRYPOINT ["/opt/usher/bin/usher"]
