<?php
/*
 * Whether php-fpm answers, for the container's health check: asks its ping.path over FastCGI,
 * for images have no client for it. Exit status 0 when it said pong.
 */
declare(strict_types=1);

const BEGIN_REQUEST = 1;
const PARAMS = 4;
const STDIN_RECORD = 5;

function record(int $type, string $content): string
{
    return pack('CCnnCx', 1, $type, 1, strlen($content), 0) . $content;
}

/** Names and values here are shorter than 128 bytes, so each length is one byte. */
function pair(string $name, string $value): string
{
    return chr(strlen($name)) . chr(strlen($value)) . $name . $value;
}

$fpm = @stream_socket_client('tcp://127.0.0.1:9000', $code, $message, 3);
if ($fpm === false) {
    fwrite(STDERR, "php-fpm: $message\n");
    exit(1);
}
stream_set_timeout($fpm, 3);
// Role 1 is the responder; without KEEP_CONN php-fpm closes when it is done.
fwrite($fpm, record(BEGIN_REQUEST, pack('nCx5', 1, 0))
    . record(PARAMS, pair('REQUEST_METHOD', 'GET') . pair('SCRIPT_NAME', '/ping')
        . pair('SCRIPT_FILENAME', '/ping') . pair('QUERY_STRING', ''))
    . record(PARAMS, '') . record(STDIN_RECORD, ''));
$reply = stream_get_contents($fpm, 4096);
if ($reply === false || !str_contains($reply, "\r\n\r\npong")) {
    fwrite(STDERR, "php-fpm does not answer its ping\n");
    exit(1);
}
