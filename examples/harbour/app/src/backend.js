import { useCallback, useEffect, useState } from 'react';

const BACKEND = __BACKEND_URL__.replace(/\/$/, '');

/** Calls the back end; throws an Error whose message can be shown. */
export async function call(path, json) {
  let response;
  try {
    response = await fetch(BACKEND + path, json && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(json),
    });
  } catch {
    throw new Error('The back end does not answer. Is it running in the terminal named server?');
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error ?? `The back end answered ${response.status}.`);
  return body;
}

/** What a route answers: { value, error, waiting, again }. */
export function useCall(path, json) {
  const [state, setState] = useState({ waiting: true });
  const key = JSON.stringify(json ?? null);
  const ask = useCallback(() => {
    let current = true;
    call(path, JSON.parse(key) ?? undefined)
      .then((value) => current && setState({ value }))
      .catch((error) => current && setState({ error: error.message }));
    return () => { current = false; };
  }, [path, key]);
  useEffect(() => {
    const stop = ask();
    // Coming back from the editor shows what the new code answers.
    window.addEventListener('focus', ask);
    return () => { stop(); window.removeEventListener('focus', ask); };
  }, [ask]);
  return { ...state, again: ask };
}

/** A price as it may come from MongoDB (Decimal128 in extended JSON) or from PostgreSQL. */
export function amount(value) {
  return Number(value?.$numberDecimal ?? value ?? 0);
}
