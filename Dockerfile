# One image for every process of an installation: `docker run ringfence COMMAND` is `ringfence COMMAND`.
FROM python:3.13.14-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

RUN useradd --create-home --uid 10001 ringfence
WORKDIR /srv/ringfence

COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY words ./words
COPY risk ./risk
COPY markets ./markets
COPY strategies ./strategies
COPY vaults ./vaults
COPY runtime ./runtime
COPY faces ./faces
COPY ringfence ./ringfence
COPY mandates ./mandates
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .


# Compiled formulas are cached in this user's home, which is therefore writable.
USER ringfence
ENTRYPOINT ["ringfence"]
CMD ["worker"]
