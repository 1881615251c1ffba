"""What a failed connection is called, for people."""

from __future__ import annotations

import errno

import aiohttp

_ERRNO_ZH = {
    errno.ECONNREFUSED: "拒绝连接，对方服务未启动或端口有误",
    errno.EHOSTUNREACH: "网络不可达，请检查线路",
    errno.ENETUNREACH: "网络不可达，请检查线路",
    errno.ECONNRESET: "连接被对方中断",
    errno.ETIMEDOUT: "连接超时",
}


def reason_zh(error: Exception) -> str:
    """What an operator looks at first: the name, the machine, the line or the certificate."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "域名无法解析，请检查地址和 DNS"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "TLS 握手失败，请检查地址应为 http 还是 https"
    if isinstance(error, OSError):
        return _ERRNO_ZH.get(error.errno or 0, "连接失败或中断")
    return "连接中断，或应答不符合 HTTP 规范"
