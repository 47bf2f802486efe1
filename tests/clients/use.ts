// Uses the generated types against the service whose address is the first argument; exits 1 where an answer is not as expected.
import createClient from "openapi-fetch";
import type { components, paths } from "lookalike-client";
import { readFileSync } from "node:fs";
import { strict as assert } from "node:assert";

type Slug = components["schemas"]["ProblemDetails"]["type"];

const [base, picture] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: base });
const c = "typed";
// Generators know a file as a string; what is sent is the file.
const image = new Blob([readFileSync(picture)]) as unknown as string;

function form(fields: object): FormData {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) made.append(name, value instanceof Blob ? value : String(value));
  return made;
}

async function main(): Promise<void> {
  const made = await client.PUT("/v1/collections/{c}", { params: { path: { c } } });
  assert.equal(made.response.status, 201);
  assert.equal(made.data?.index.action, null);
  for (const id of ["a", "b", "c"]) {
    const body = { image, metadata: JSON.stringify({ id }) };
    const put = await client.PUT("/v1/collections/{c}/items/{id}", { params: { path: { c, id } }, body, bodySerializer: form });
    assert.equal(put.response.status, 201);
  }

  const none = await client.POST("/v1/collections/{c}/search", { params: { path: { c } }, body: { image }, bodySerializer: form });
  assert.equal(none.data?.results.length, 3);
  const every = await client.POST("/v1/collections/{c}/search", {
    params: { path: { c } },
    body: { image, limit: 2, offset: 0, score_threshold: 0.5, filter: '{"must_not":[{"key":"id","match":"a"}]}', group_by: "id", crop: "0,0,1,1" },
    bodySerializer: form,
  });
  assert.deepEqual(every.data?.results.map((each) => each.group).sort(), ["b", "c"]);
  const raw = await client.POST("/v1/collections/{c}/search/raw", {
    params: { path: { c }, query: { limit: 1 } },
    body: image,
    bodySerializer: (body) => body as unknown as Blob,
    headers: { "Content-Type": "application/octet-stream" },
  });
  assert.equal(raw.data?.results.length, 1);
  const query = await client.POST("/v1/collections/{c}/query", {
    params: { path: { c } },
    body: { id: "a", filter: { must: [{ key: "id", match: "b" }] } },
  });
  assert.deepEqual(query.data?.results.map((each) => each.id), ["b"]);
  const far = await client.POST("/v1/collections/{c}/query", { params: { path: { c } }, body: { id: "a", filter: { must: [{ key: "id", match: "z" }] } } });
  assert.equal(far.data?.no_match, true);

  const ids: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await client.GET("/v1/collections/{c}/items", { params: { path: { c }, query: { limit: 2, cursor } } });
    ids.push(...(page.data?.items ?? []).map((each) => each.id));
    if (!page.data?.next_cursor) break;
    cursor = page.data.next_cursor;
  }
  assert.deepEqual(ids, ["a", "b", "c"]);

  const missing = await client.GET("/v1/collections/{c}/items/{id}", { params: { path: { c, id: "none" } } });
  assert.equal(missing.error?.type satisfies Slug | undefined, "/problems/not-found");
  const text = { image: new Blob(["text"]) as unknown as string };
  const wrong = await client.POST("/v1/collections/{c}/search", { params: { path: { c } }, body: text, bodySerializer: form });
  assert.equal(wrong.error?.type, "/problems/unsupported-image");
  const large = { image: new Blob([new Uint8Array(30_000_000)]) as unknown as string };
  const big = await client.POST("/v1/collections/{c}/search", { params: { path: { c } }, body: large, bodySerializer: form });
  assert.equal(big.error?.status, 413);
  assert.equal((await client.DELETE("/v1/collections/{c}", { params: { path: { c } } })).response.status, 204);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
