<?php
/*
 * A small origin: pictures from a folder, with validators, for php-fpm behind halftone.
 *
 * Environment or FastCGI parameters:
 *   ORIGINALS      the folder (required)
 *   CACHE_CONTROL  Cache-Control of a picture (default "public, max-age=3600")
 *   COUNTER        a file that counts requests; the count goes out as X-Requests (default: none)
 *
 * It answers for what only an application can know. Ranges, HEAD's details and sizes other than
 * the original's are the edge's business.
 */
declare(strict_types=1);

const MEDIA_TYPES = [
    'jpg' => 'image/jpeg', 'jpeg' => 'image/jpeg', 'jpe' => 'image/jpeg', 'png' => 'image/png',
    'webp' => 'image/webp', 'avif' => 'image/avif', 'gif' => 'image/gif',
];

/** A setting from the FastCGI parameters or the pool's environment. */
function setting(string $name, string $default = ''): string
{
    $value = $_SERVER[$name] ?? getenv($name);
    return is_string($value) && $value !== '' ? $value : $default;
}

/** Errors carry a fixed sentence and are nobody's to keep. */
function refuse(int $status, string $sentence): never
{
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    header('Cache-Control: ' . ($status === 404 ? 'public, max-age=10' : 'no-store'));
    header('Content-Length: ' . strlen($sentence));
    echo $sentence;
    exit;
}

/** The decoded path: DOCUMENT_URI where the server sends it, else REQUEST_URI decoded once. */
function requested_path(): string
{
    if (isset($_SERVER['DOCUMENT_URI'])) {
        return $_SERVER['DOCUMENT_URI'];
    }
    return rawurldecode(strtok($_SERVER['REQUEST_URI'] ?? '', '?') ?: '');
}

/** The file below $root that $path names, null when there is none or it lies outside. */
function find(string $root, string $path): ?string
{
    if (!str_starts_with($path, '/') || preg_match('/[\x00-\x1f\x7f\\\\]/', $path)) {
        return null;
    }
    if (!preg_match('//u', $path)) {
        return null; // not UTF-8
    }
    foreach (explode('/', substr($path, 1)) as $segment) {
        // Also hidden files: nothing that starts with a dot is a picture of ours.
        if ($segment === '' || $segment[0] === '.' || strlen($segment) > 255) {
            return null;
        }
    }
    // A link may lead out: compare what both really are, folder by folder (hence the slash).
    $base = realpath($root);
    $real = realpath($root . $path);
    if ($base === false || $real === false || !str_starts_with($real, rtrim($base, '/') . '/')) {
        return null;
    }
    return is_file($real) ? $real : null;
}

function media_type(string $file): string
{
    $extension = strtolower(pathinfo($file, PATHINFO_EXTENSION));
    if (isset(MEDIA_TYPES[$extension])) {
        return MEDIA_TYPES[$extension];
    }
    $type = class_exists('finfo') ? (new finfo(FILEINFO_MIME_TYPE))->file($file) : false;
    return $type ?: 'application/octet-stream';
}

/** RFC 9110 section 13.2.2: If-None-Match decides alone; else If-Modified-Since. */
function is_not_modified(string $etag, int $modified): bool
{
    $tags = $_SERVER['HTTP_IF_NONE_MATCH'] ?? null;
    if ($tags !== null) {
        if (trim($tags) === '*') {
            return true;
        }
        preg_match_all('/(?:W\/)?("[^"]*")/', $tags, $found);
        return in_array($etag, $found[1], true);
    }
    $since = strtotime($_SERVER['HTTP_IF_MODIFIED_SINCE'] ?? '');
    return $since !== false && $modified <= $since;
}

/** All children count in one file; the lock is held for the read and the write. */
function count_request(string $counter): int
{
    $file = fopen($counter, 'c+');
    if ($file === false) {
        return 0;
    }
    flock($file, LOCK_EX);
    $count = 1 + (int) stream_get_contents($file);
    ftruncate($file, 0);
    rewind($file);
    fwrite($file, (string) $count);
    fclose($file);
    return $count;
}

function main(): void
{
    header_remove('X-Powered-By');
    header('X-Content-Type-Options: nosniff');
    $counter = setting('COUNTER');
    if ($counter !== '') {
        header('X-Requests: ' . count_request($counter));
    }
    $method = $_SERVER['REQUEST_METHOD'] ?? '';
    if ($method !== 'GET' && $method !== 'HEAD') {
        header('Allow: GET, HEAD');
        refuse(405, "This is not allowed here.\n");
    }
    $root = setting('ORIGINALS');
    if ($root === '' || !is_dir($root)) {
        error_log('ORIGINALS is not a folder');
        refuse(500, "The origin is not configured.\n");
    }
    $path = find($root, requested_path());
    // Status and body come from one open file, so that a replacement cannot mix two pictures.
    $file = $path === null ? false : @fopen($path, 'rb');
    if ($file === false) {
        refuse(404, "There is no such picture.\n");
    }
    $status = fstat($file);
    $etag = sprintf('"%x-%x"', $status['mtime'], $status['size']);
    header("ETag: $etag");
    header('Last-Modified: ' . gmdate('D, d M Y H:i:s', $status['mtime']) . ' GMT');
    header('Cache-Control: ' . setting('CACHE_CONTROL', 'public, max-age=3600'));
    if (is_not_modified($etag, $status['mtime'])) {
        http_response_code(304);
        return;
    }
    header('Content-Type: ' . media_type($path));
    header('Content-Length: ' . $status['size']);
    if ($method === 'GET') {
        while (ob_get_level() > 0) {
            ob_end_clean();
        }
        fpassthru($file);
    }
}

main();
