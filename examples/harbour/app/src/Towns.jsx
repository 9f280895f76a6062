import { Answer } from './Answer.jsx';
import { amount, useCall } from './backend.js';

export function Towns() {
  const call = useCall('/api/towns');
  return (
    <section aria-labelledby="towns">
      <h2 id="towns">The town guide</h2>
      <Answer call={call} exercise="mongodb-4">
        {(rows) => (
          <div className="scroll">
            <table>
              <thead><tr><th scope="col">Town</th><th scope="col">Places</th><th scope="col">Average night</th><th scope="col">Reviews</th></tr></thead>
              <tbody>
                {rows.map((row) => (
                  <tr key={row.town}><th scope="row">{row.town}</th><td>{row.places}</td><td>€{amount(row.averagePrice).toFixed(2)}</td><td>{row.reviews}</td></tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Answer>
    </section>
  );
}
