/** The judges of the webhook: the checks of control/validation over what the control plane knows at this moment. */
import { ObjectStore } from '../model/object-store.ts';
import { analyzeObject } from '../validation/analyze.ts';
import { type AnalysisSettings, AnalysisView } from '../validation/view.ts';
import type { Judge } from './review.ts';

/** Workloads that are looked at for one object; a policy for more is judged as if the others were in the mesh. */
export const MAX_JUDGED_WORKLOADS = 5000;

/** @param isSynced false while the store does not hold everything yet: absence says nothing then */
export function openJudges(
  store: ObjectStore,
  settings: AnalysisSettings,
  isSynced: () => boolean,
): { readonly judge: Judge; readonly judgeAlone: Judge } {
  const alone = new ObjectStore();
  const judgeAlone: Judge = (object) =>
    analyzeObject(object, new AnalysisView({ objects: alone, complete: false, settings }));
  const judge: Judge = (object) => {
    if (!isSynced()) return judgeAlone(object);
    const view = new AnalysisView({ objects: store, complete: true, settings, maxWorkloads: MAX_JUDGED_WORKLOADS });
    return analyzeObject(object, view);
  };
  return { judge, judgeAlone };
}
