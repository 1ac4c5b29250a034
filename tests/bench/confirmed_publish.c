/* Confirmed publishing with librabbitmq: the yardstick of tests/bench/clients.py.
 *
 * usage: confirmed_publish HOST PORT USER PASSWORD QUEUE COUNT SIZE WINDOW
 * Publishes COUNT persistent messages with at most WINDOW unconfirmed, and prints the seconds that it took.
 */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else /* before 0.12 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char *what) {
  fprintf(stderr, "confirmed_publish: %s failed\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc != 9) die("reading the arguments");
  unsigned long long count = strtoull(argv[6], NULL, 10), size = strtoull(argv[7], NULL, 10);
  unsigned long long window = strtoull(argv[8], NULL, 10), sent = 0, confirmed = 0;

  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (amqp_socket_open(socket, argv[1], atoi(argv[2]))) die("connecting");
  if (amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, argv[3], argv[4]).reply_type !=
      AMQP_RESPONSE_NORMAL)
    die("logging in");
  if (!amqp_channel_open(connection, 1) || !amqp_confirm_select(connection, 1)) die("opening a channel");

  amqp_bytes_t body = amqp_bytes_malloc(size);
  memset(body.bytes, 'x', size);
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
  amqp_bytes_t exchange = amqp_cstring_bytes(""), key = amqp_cstring_bytes(argv[5]);

  double begin = now();
  while (confirmed < count) {
    while (sent < count && sent - confirmed < window) {
      if (amqp_basic_publish(connection, 1, exchange, key, 0, 0, &properties, body)) die("publishing");
      sent++;
    }
    amqp_frame_t frame;
    if (amqp_simple_wait_frame(connection, &frame)) die("waiting");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) continue;
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    /* One queue, one channel: confirms come in order, so a single ack too means all up to its tag. */
    if (ack->delivery_tag > confirmed) confirmed = ack->delivery_tag;
    amqp_maybe_release_buffers(connection);
  }
  printf("%.6f\n", now() - begin);
  return 0;
}
