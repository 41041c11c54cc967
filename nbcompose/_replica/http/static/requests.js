// The request that a filled-in form makes: as `fetch` wants it, and as a line for a shell. No DOM here.

const JSON_TYPE = "application/json";
const AUTHORIZATION = '-H "Authorization: Bearer $NBCOMPOSE_TOKEN"';

/** @typedef {{body: string | FormData, headers: Record<string, string>}} Request */

/**
 * A form where there are files among the values, JSON otherwise.
 *
 * @param {string} root the parameter that is the whole body, or ""
 * @param {Record<string, any>} values by parameter
 * @returns {Request}
 */
export function request(root, values) {
  if (!Object.values(values).flat().some(isFile)) {
    // Nothing, where the parameter that is the whole body has its default.
    const body = root ? (JSON.stringify(values[root]) ?? "") : JSON.stringify(values);
    return { body, headers: { "Content-Type": JSON_TYPE } };
  }
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) {
    const many = Array.isArray(value) && value.some(isFile);
    // A part for text holds the text itself.
    for (const v of many ? value : [value]) {
      body.append(name, isFile(v) || typeof v === "string" ? v : JSON.stringify(v));
    }
  }
  return { body, headers: {} };
}

/** @param {any} value */
const isFile = (value) => value instanceof File;

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * A line that sends the streams of a call as they come.
 *
 * @param {URL | string} url
 * @param {string[]} lines of the body
 * @param {boolean} secured with a token
 * @param {boolean} saves whether the answer is a file
 */
export function curlOfLines(url, lines, secured, saves) {
  const parts = [`curl -sN -X POST ${url}${saves ? " -o answer" : ""}`];
  if (secured) parts.push(AUTHORIZATION);
  parts.push(`-H 'Content-Type: application/x-ndjson'`, "-T .");
  return `printf '%s\\n' ${lines.map(quoted).join(" ")} |\n  ${parts.join(" \\\n  ")}`;
}

/**
 * @param {URL | string} url
 * @param {Request} request
 * @param {boolean} secured with a token
 * @param {boolean} saves whether the answer is a file
 */
export function curlLine(url, { body, headers }, secured, saves) {
  const parts = [`curl ${url}${saves ? " -o answer" : ""}`];
  if (secured) parts.push(AUTHORIZATION);
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (typeof body === "string") parts.push(`-d ${quoted(body)}`);
  else {
    for (const [name, value] of body)
      parts.push(
        typeof value === "string"
          ? `--form-string ${quoted(`${name}=${value}`)}`
          : `-F ${quoted(`${name}=@"${value.name}"`)}`,
      );
  }
  return parts.join(" \\\n  ");
}
