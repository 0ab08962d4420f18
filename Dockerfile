# syntax=docker/dockerfile:1
# The image of segdns: one static binary and nothing else.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example.com/segdns:0.1.0 --push .
#
# The binary has a file capability (port 53 without root), which only BuildKit (Docker 23 or newer, buildx), Podman and Buildah copy
# from stage to stage. tests/image.rs runs what stands here by hand: it knows FROM, ARG, WORKDIR, COPY, RUN, USER, LABEL, ENTRYPOINT
# and CMD, and takes a RUN that calls apt-get or rustup, or that installs a tool of cargo's, as said.

# On the machine's own architecture for any other: rustc and gcc are cross compilers, so nothing is emulated.
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
ARG TARGETARCH

# The C compiler is for ring and jemalloc; musl-dev has its headers, and the wrapper that is called below.
RUN case "$TARGETARCH" in amd64) gcc=x86-64 ;; arm64) gcc=aarch64 ;; *) exit 1 ;; esac && \
    dpkg --add-architecture "$TARGETARCH" && \
    apt-get update && \
    apt-get install --yes --no-install-recommends "gcc-$gcc-linux-gnu" "musl-dev:$TARGETARCH" libcap2-bin && \
    rm -rf /var/lib/apt/lists/*

RUN case "$TARGETARCH" in amd64) arch=x86_64 ;; arm64) arch=aarch64 ;; *) exit 1 ;; esac && \
    rustup target add "$arch-unknown-linux-musl"

# Before the sources, so that it is built once.
RUN cargo install --locked cargo-cyclonedx@0.5.9

WORKDIR /src
COPY Cargo.toml Cargo.lock LICENSE ./
COPY src src
# Cargo.toml names its benches; none is built.
COPY bench bench

# dev builds faster, for a look.
ARG PROFILE=release

# Nodes with arm64 may have pages of 64 KiB, which jemalloc has to know of. Elsewhere it costs a little memory.
RUN case "$TARGETARCH" in amd64) arch=x86_64 page=12 ;; arm64) arch=aarch64 page=16 ;; *) exit 1 ;; esac && \
    target="$arch-unknown-linux-musl" && \
    export "CC_$(echo "$target" | tr - _)=$arch-linux-musl-gcc" "AR_$(echo "$target" | tr - _)=$arch-linux-gnu-ar" && \
    export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$arch-linux-gnu-gcc" && \
    JEMALLOC_SYS_WITH_LG_PAGE="$page" \
    cargo install --locked --path . --bin segdns --target "$target" --profile "$PROFILE" --root /out --no-track

# What the binary is made of. The lock file is the one that built it: --locked would have failed above.
RUN case "$TARGETARCH" in amd64) arch=x86_64 ;; arm64) arch=aarch64 ;; *) exit 1 ;; esac && \
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$arch-unknown-linux-musl" --no-build-deps \
        --override-filename segdns.cdx && \
    mkdir -p /out/root/usr/share/sbom && \
    mv segdns.cdx.json /out/root/usr/share/sbom/segdns.cdx.json

# After everything that writes to the file: whoever writes to it takes its capabilities away. 65532 can write nothing in /.
RUN mkdir -p /out/root /out/state && \
    mv /out/bin/segdns /out/root/segdns && \
    cp LICENSE /out/root/LICENSE && \
    chmod 0755 /out/root/segdns && \
    setcap cap_net_bind_service=+ep /out/root/segdns && \
    setcap -v cap_net_bind_service=+ep /out/root/segdns

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="segdns" \
      org.opencontainers.image.description="Node-local DNS for Kubernetes that knows mesh segments" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
# No certificates: API servers are those of the pod's account and of peers' kubeconfigs, which have their own CA.
COPY --from=build /out/root/ /
# What has to be written: the saved state, and the socket for probes.
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/segdns/
COPY --from=build --chown=65532:65532 /out/state/ /run/segdns/
USER 65532:65532
ENTRYPOINT ["/segdns"]
CMD ["serve", "--config", "/etc/segdns/segdns.yaml"]
