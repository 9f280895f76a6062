import { useState } from 'react';
import { Answer } from './Answer.jsx';
import { amount, useCall } from './backend.js';

export function Availability({ towns }) {
  const [chosen, setChosen] = useState('');
  const [stay, setStay] = useState({ from: '2026-07-03', to: '2026-07-06' });
  const town = chosen || towns[0] || 'Saltmere';
  const stars = useCall('/api/sql/town', { town });
  const free = useCall('/api/sql/free', { town, ...stay });
  return (
    <section aria-labelledby="free">
      <h2 id="free">Free nights</h2>
      <form className="wishes" onSubmit={(event) => event.preventDefault()}>
        <label>Town
          <select value={town} onChange={(event) => setChosen(event.target.value)}>
            {towns.map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <label>From <input type="date" value={stay.from} onChange={(event) => setStay({ ...stay, from: event.target.value || stay.from })} /></label>
        <label>To <input type="date" value={stay.to} onChange={(event) => setStay({ ...stay, to: event.target.value || stay.to })} /></label>
      </form>
      <div className="columns">
        <div>
          <h3>What guests say in {town}</h3>
          <Answer call={stars} exercise="sql-1">
            {(rows) => (
              <ol className="list">
                {rows.slice(0, 8).map((row) => (
                  <li key={row.id}><span>{row.name}<small>{row.host}</small></span><strong>{row.stars == null ? 'new' : `★ ${Number(row.stars).toFixed(1)} (${row.reviews})`}</strong></li>
                ))}
              </ol>
            )}
          </Answer>
        </div>
        <div>
          <h3>Free for your stay</h3>
          <Answer call={free} exercise="sql-2">
            {(rows) => (
              <ol className="list">
                {rows.slice(0, 8).map((row) => <li key={row.id}><span>{row.name}</span><strong>€{amount(row.price).toFixed(2)}</strong></li>)}
              </ol>
            )}
          </Answer>
        </div>
      </div>
    </section>
  );
}
