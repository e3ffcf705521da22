#!/bin/sh
# Writes test certificates to the current folder: a certificate authority, a valid, an expired and a
# wrong-host server certificate, a client certificate (board), and a client certificate of another authority
# (stranger).
set -e

authority() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
}

# Arguments: name, authority, subject alternative names, validity in days.
certificate() {
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
    printf 'subjectAltName=%s\n' "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days "$4" -extfile "$1.ext" -out "$1.pem"
}

authority ca
authority other-ca
certificate server ca IP:127.0.0.1 30
certificate expired ca IP:127.0.0.1 -1
certificate other-host ca IP:127.9.9.9,DNS:elsewhere.example 30
certificate board ca DNS:board 30
certificate stranger other-ca DNS:stranger 30
