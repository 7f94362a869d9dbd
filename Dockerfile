# The binary alone: everything it needs is in it.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X millrace/cmd/internal/app.version=${VERSION}" -o /millrace ./cmd/millrace

# Tasks are commands, so the image has a shell; use your own base to bring what your tasks need.
FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /var/lib/millrace millrace
COPY --from=build /millrace /usr/local/bin/millrace
USER millrace
WORKDIR /var/lib/millrace
VOLUME /var/lib/millrace
EXPOSE 8080 8081
ENTRYPOINT ["millrace"]
CMD ["serve"]
