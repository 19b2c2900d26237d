"""Fixes of hypercorn 0.18, which has no setting for any of them, by subject.

| file | subject |
|---|---|
| `connection` | one TCP connection: clients that vanish, idle time, when bytes are written |
| `idle` | the watch over a connection on which nothing happens costs no task where a request comes at once |
| `http1` | HTTP/1.1: upgrades, absolute-form targets, pipelining |
| `http2` | HTTP/2: what one request does wrong ends that request alone; Restate may send large calls in few frames |
| `http2_frames` | the same in the h2 package, below hypercorn |
| `request_stream` | one request and its body |
| `send_buffer`, `round_robin` | what an HTTP/2 connection has to send, and in which order |
| `unread` | answers that an HTTP/2 client does not take |
| `handing_over` | a connection that a stream takes over leaves hypercorn |
| `limits` | what a connection may do and for how long it may do nothing, and who watches |

They replace classes in the places where hypercorn 0.18 looks them up (`install`), and use these private parts:
of hypercorn `H2Protocol._handle_events`, `_create_stream`, `_close_stream`, `_send_data`, `_flush`, `_window_updated`;
`H11Protocol._handle_events`, `_create_stream`, `_check_protocol`, `_maybe_recycle`, `_send_error_response`;
`StreamBuffer._paused`, `_is_empty`, `_complete`; `TCPServer._read_data`, `_close`, `_idle_timeout`,
`_initiate_server_close`; `HTTPStream.app_put`,
`state`; `AsyncioSingleTask._handle`, `TaskGroup._task_group`; of h2 4.4 `H2Connection._receive_headers_frame`,
`_receive_data_frame`, `_receive_priority_frame`, `_open_streams`, `_frame_dispatch_table`,
`_inbound_flow_control_window_manager`, `_prepare_for_sending`. To be dropped with the release that needs none of it.
"""

from restate_pubsub.server.hypercorn_fixes.handing_over import missing
from restate_pubsub.server.hypercorn_fixes.install import install
from restate_pubsub.server.hypercorn_fixes.limits import UNLIMITED, ConnectionLimits, Observer, ServerConfig

__all__ = ["UNLIMITED", "ConnectionLimits", "Observer", "ServerConfig", "install", "missing"]
