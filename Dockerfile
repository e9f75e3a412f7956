# docker build --tag covidcxnet . && docker run --rm covidcxnet
# docker run --rm --volume "$PWD:/data" covidcxnet predict /data/chest.png --weights covid-cxnet-lite --out /data/pictures
FROM python:3.12-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg COVIDCXNET_HOME=/home/reader/covidcxnet
WORKDIR /opt/covidcxnet
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[imagenet,dicom]' \
    && useradd --create-home reader
USER reader
WORKDIR /data

# A research tool, not a medical device.
ENTRYPOINT ["covidcxnet"]
CMD ["--help"]
