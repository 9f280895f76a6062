import { useState } from 'react';
import { Answer } from './Answer.jsx';
import { Card } from './Card.jsx';
import { useCall } from './backend.js';

const SIZE = 6;

export function Browse() {
  const [page, setPage] = useState(1);
  const call = useCall(`/api/listings?page=${page}&size=${SIZE}`);
  return (
    <section aria-labelledby="browse">
      <h2 id="browse">All places, from A to Z</h2>
      <Answer call={call} exercise="mongodb-1">
        {(rows) => <div className="cards">{rows.map((row) => <Card key={row._id} listing={row} />)}</div>}
      </Answer>
      <nav className="pages" aria-label="Pages">
        <button type="button" disabled={page === 1} onClick={() => setPage(page - 1)}>← Back</button>
        <span>Page {page}</span>
        <button type="button" disabled={!(call.value?.length >= SIZE)} onClick={() => setPage(page + 1)}>Next →</button>
      </nav>
    </section>
  );
}
