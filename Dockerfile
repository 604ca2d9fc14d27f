# The image of Ambit: agent, control plane and CNI plugin on one Node.js, without package manager or anything else that they do
# not run (the shell is for the agent's supervisor). scripts/build-image builds it; `docker build .` does too.
#
#   node /opt/ambit/agent/main.js      the node agent (as root, capabilities given by its DaemonSet)
#   node /opt/ambit/control/main.js    the control plane
#   node /opt/ambit/cli/main.js        the command line: version, why, connections, ...
#   /opt/ambit/cni/ambit-cni           the CNI plugin, one executable that is copied to the node
#
# The files of the image are the same for the same sources, base image and Debian packages.
ARG BASE=node:26-bookworm-slim

# What Node.js and nft need of Debian, and nothing else.
FROM ${BASE} AS system
COPY scripts/image/collect-system /usr/local/bin/collect-system
RUN apt-get update && apt-get install -y --no-install-recommends binutils nftables && sh /usr/local/bin/collect-system /rootfs

FROM ${BASE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
# A certificate authority of the network (a proxy that reads TLS) comes as the secret `ca`; it stays out of the image.
RUN --mount=type=secret,id=ca,target=/run/ca.pem NODE_EXTRA_CA_CERTS=/run/ca.pem npm ci --ignore-scripts --no-audit --no-fund
COPY --from=system /rootfs/usr/local/bin/node /usr/local/bin/node
COPY --from=system /packages.txt /packages.txt
COPY . .
ARG SOURCE_DATE_EPOCH=0
RUN SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} node scripts/image/assemble.ts /out /packages.txt

FROM scratch
COPY --from=system /rootfs /
COPY --from=build /out /
ARG VERSION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title=ambit org.opencontainers.image.version=${VERSION} \
  org.opencontainers.image.created=${CREATED} org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/usr/local/bin:/usr/sbin NODE_ENV=production
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/node"]
CMD ["/opt/ambit/cli/main.js", "version"]
