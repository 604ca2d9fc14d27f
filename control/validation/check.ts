/** A check: what can be said about one object in its surroundings. Pure. */
import type { ObjectKind } from '../objects/object.ts';
import type { Finding } from './finding.ts';
import type { AnalysisView, ObjectOf } from './view.ts';

export type Check<K extends ObjectKind> = (object: ObjectOf<K>, view: AnalysisView) => Iterable<Finding>;
