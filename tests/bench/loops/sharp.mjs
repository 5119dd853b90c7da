// sharp's resize in a bare loop: one thread, no cache, metadata stripped (its default).
// The form of what is read and written is that of wire.py. Efforts are the node's.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

// The folder that `npm install sharp` filled is the last word of the command.
const sharp = createRequire(`${process.argv[2]}/package.json`)("sharp");

sharp.concurrency(1);
sharp.cache(false);

const encoders = {
  jpeg: (image, quality) => image.jpeg({ quality }),
  png: (image) => image.png({ compressionLevel: 4 }),
  webp: (image, quality) => image.webp({ quality, effort: 2 }),
  avif: (image, quality) => image.avif({ quality, effort: 0, chromaSubsampling: "4:2:0" }),
};

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const { path, width, format, quality } = JSON.parse(line);
  const image = sharp(path).resize({ width, withoutEnlargement: true });
  const body = await encoders[format](image, quality).toBuffer();
  process.stdout.write(`${body.length}\n`);
  process.stdout.write(body);
}
