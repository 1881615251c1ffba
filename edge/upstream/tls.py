"""Whom an edge believes that an https upstream is who it says. Bytes are proved all the same."""

from __future__ import annotations

import ssl

from manifests.errors import ConfigurationError


def tls_of(urls: tuple[str, ...], ca_file: str) -> ssl.SSLContext | bool:
    """What https upstreams are judged by: the system's authorities, and those of `ca_file`.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificate.
    """
    if not ca_file or not any(url.startswith("https:") for url in urls):
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"upstream.ca_file {ca_file}: {reason}", zh=f"upstream.ca_file 指定的证书文件 {ca_file} 无法使用：{reason}"
        ) from error
    return context
