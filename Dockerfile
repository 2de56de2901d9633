# One image a service (targets gateway, patient-service, audit-service, projections): from nothing but its program and the
# libraries that this needs, under a user of its own. `operator` has all programs, and is started as a job.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p gateway -p patient-service -p audit-service -p projections -p operator --bins \
    && mkdir /built \
    && cd target/release \
    && cp gateway patient-service audit-service audit projections azure-secrets azure-subscription /built/
RUN for service in gateway patient-service audit-service projections; do \
        images/make-root "/roots/$service" "/built/$service" || exit 1; \
    done \
    && mkdir -m 0700 -p /writable/state /writable/anchors /volumes/secrets /volumes/clients

FROM scratch AS gateway
COPY --from=build /roots/gateway/ /
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/gateway"]

FROM scratch AS patient-service
COPY --from=build /roots/patient-service/ /
USER 10001:10001
EXPOSE 7071
ENTRYPOINT ["/usr/local/bin/patient-service"]

FROM scratch AS audit-service
COPY --from=build /roots/audit-service/ /
# Where volumes are mounted.
COPY --from=build --chown=10001:10001 /writable/ /
USER 10001:10001
EXPOSE 7072
ENTRYPOINT ["/usr/local/bin/audit-service"]

FROM scratch AS projections
COPY --from=build /roots/projections/ /
USER 10001:10001
EXPOSE 7073
ENTRYPOINT ["/usr/local/bin/projections"]

FROM debian:bookworm-slim AS operator
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /built/ /usr/local/bin/
COPY runtime/ops/make-keys runtime/ops/make-clients /usr/local/bin/
COPY --from=build --chown=10001:10001 /volumes/ /
USER 10001:10001
